"""Networks, their averages, and the buffers that travel with them."""
