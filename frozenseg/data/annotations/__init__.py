"""What annotation files may hold: every value is checked here before anything else sees it."""
