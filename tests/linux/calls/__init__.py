"""One table of socket calls, made on Linux and on our host, and the places where they differ."""
