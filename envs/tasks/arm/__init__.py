"""Tasks in which an arm acts on what a camera or the eye sees."""
