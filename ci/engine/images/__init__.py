"""Images: resolved from the store, a registry or a stand-in; unpacked; written as OCI."""

from ci.engine.images.resolve import Images, ResolvedImage

__all__ = ["Images", "ResolvedImage"]
