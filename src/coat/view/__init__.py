"""A page to listen with: what experts heard, what the think states kept, and both models' answers."""
