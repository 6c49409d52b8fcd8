"""Tasks in which looking is the skill."""
