"""Weights from elsewhere: files of safetensors or PyTorch, and where they are kept.

Such a file is not trusted. It is read without PyTorch, and no pickle in it is executed.
What a network needs is checked by name and shape before it is used. A new format is a
file with `read(path) -> {name: array}`, which `files.read` chooses by the content.
"""
