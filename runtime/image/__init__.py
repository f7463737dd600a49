"""Looking into an image, or the root of a container that runs, which somebody hostile has filled.

beneath     the only way to open a file there
copied      whether a part of it can be copied into memory
image       the facts about an image
image_init  what it has for PID 1
passwd      its users and groups
"""
