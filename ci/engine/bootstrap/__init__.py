"""Stand-ins for images, built from a distribution's own packages where no registry is reached."""
