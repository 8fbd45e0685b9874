"""The hostile campaign: damaged files, kills, first starts at once and full disks, from a seed.

``make campaign SECONDS=1800`` runs all of it and prints a table; ``test_slice.py`` runs a short part in CI. A reader or
writer of files that comes later adds a line to :data:`tests.campaign.kinds.KINDS`.
"""
