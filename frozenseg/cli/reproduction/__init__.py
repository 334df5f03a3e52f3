"""The paper's tables: what they hold, and how each is measured."""
