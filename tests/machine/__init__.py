"""A server that lives through a drawn history of work, faults and losses; a model knows what must hold."""
