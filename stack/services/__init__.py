"""What a host offers its link beside its sockets: servers without I/O, and their runners."""
