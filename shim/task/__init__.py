"""The Task API: containers, their processes, their stdio and their events."""
