"""What the processes import that workers are forked from. Imported by name only, never by other rooms."""
