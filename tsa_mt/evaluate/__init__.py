"""Looking at what a model does: scores with the conditions under which they hold."""
