"""Dockerfiles: read and planned without I/O, then lowered to the engine's own vertices.

``lines`` and ``parser`` make instructions of a text, ``plan`` makes stages of instructions, and
``build`` makes a container of the stage that is wanted. What a Dockerfile means is what the
stable BuildKit frontend says: https://docs.docker.com/reference/dockerfile/
"""
