"""Network drivers, one package each."""
