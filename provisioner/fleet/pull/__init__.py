"""Pulling: a host takes a commit of a repository, once it is sure whose it is, and its files become a folder.

``repository`` asks git, ``signatures`` says whose a commit is, ``tree`` writes its files, ``state`` remembers what
was applied, ``timer`` makes the units that do it again and again. What a server sends is not believed: nothing of
it is read as files, settings or programs before the signature holds.
"""
