"""Bridges to outside libraries, one module each; none is imported by the layer itself."""
