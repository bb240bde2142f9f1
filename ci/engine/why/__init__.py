"""Why a command ran again: what its runs leave, and how two of them are compared."""
