"""What is to be made: immutable descriptions of containers, trees and commands. Pure."""
