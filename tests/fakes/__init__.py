"""In-memory stand-ins for everything outside the functions, as strict as the services they stand for."""
