"""What the integrations for HTTP have in common; none of it imports a library of theirs."""
