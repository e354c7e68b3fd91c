"""Questions put to stored outcomes, answered as Structs; text and JSON are made from those."""
