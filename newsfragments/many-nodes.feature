Many nodes come and go in less time, and hold up nobody's answers meanwhile: nodes of processes wait for no disk, and those that go at the same time leave their networks and links together.
