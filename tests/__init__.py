"""The tests: sentences about the server, told against real databases and real faults."""
