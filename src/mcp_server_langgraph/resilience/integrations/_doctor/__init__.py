"""How the doctor looks at live objects."""
