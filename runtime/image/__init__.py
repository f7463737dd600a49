"""Reads an image, or the root of a running container. Both may have been filled by an attacker.

beneath     the only way to open a file there
copied      whether a part of the image can be copied into memory
image       the facts about an image
image_init  what the image has for PID 1
passwd      its users and groups
"""
