"""What a driver did wrong, why nothing moves, and what fails on purpose."""
