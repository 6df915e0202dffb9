"""How much of anything an image may ask for; one table, so that documentation and tests can read it.  (cold)

Real images stay far below each of these.  A number that is reached is an error that names it, and what was written
until then is removed.
"""

JSON_BYTES = 4 << 20  # a manifest, an index, a config (the distribution spec asks registries for 4 MiB)
JSON_DEPTH = 64
INDEX_DEPTH = 4  # an index may point to an index

LAYERS = 1000
LAYER_ENTRIES = 2_000_000
LAYER_BYTES = 256 << 30  # of one unpacked layer, holes counted
RATIO = 200  # plain bytes per stored byte ...
RATIO_FREE = 1 << 30  # ... checked from this many plain bytes on: small layers of zeros are harmless

NAME_BYTES = 4096  # PATH_MAX
NAME_DEPTH = 512
PART_BYTES = 255  # NAME_MAX
TAR_EXTRA_BYTES = 1 << 20  # one PAX header or GNU long name
TAR_EXTRA_HEADERS = 16  # for one entry
SPARSE_PARTS = 1 << 16
XATTRS = 64

ARCHIVE_MEMBERS = 100_000  # of an oci-archive or docker-archive
ID_MAX = 0xFFFFFFFE  # (uid_t)-1 is no id
