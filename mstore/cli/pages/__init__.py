"""Pages: what each kind of record looks like as text, JSON and ids."""
