// Package digest names the checksums that protect records on the wire, blocks in a resync and runs in a verify,
// under the names that DRBD's options and the kernel's crypto use.
package digest

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/zeebo/blake3"
	"github.com/zeebo/xxh3"
)

// Alg is a digest algorithm.
type Alg uint8

// The algorithms. Their values are stored and sent: never renumber them.
const (
	None   Alg = 0 // no digest, size 0
	CRC32C Alg = 1 // Castagnoli, 4 bytes, big-endian
	MD5    Alg = 2
	SHA1   Alg = 3
	SHA256 Alg = 4
	SHA512 Alg = 5
	XXH3   Alg = 6 // 64-bit, seed 0, 8 bytes, big-endian
	BLAKE3 Alg = 7 // 32 bytes
)

// MaxSize is the longest digest in bytes.
const MaxSize = sha512.Size

var (
	names = [...]string{"", "crc32c", "md5", "sha1", "sha256", "sha512", "xxh3", "blake3"}
	sizes = [...]int{0, crc32.Size, md5.Size, sha1.Size, sha256.Size, sha512.Size, 8, 32}

	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// Names lists the algorithms by the names that Parse knows, in the order of their values.
func Names() []string { return append([]string(nil), names[1:]...) }

// Parse returns the algorithm of that name; the empty name is None. The kernel's "-generic" and similar driver
// suffixes are not accepted. The error lists the known names.
func Parse(name string) (Alg, error) {
	for i, n := range names {
		if n == name {
			return Alg(i), nil
		}
	}
	return None, fmt.Errorf("unknown digest algorithm %q, known are %s", name, strings.Join(names[1:], ", "))
}

// Valid reports whether a is None or one of the algorithms.
func (a Alg) Valid() bool { return int(a) < len(names) }

// String is the name that Parse accepts; None is "none".
func (a Alg) String() string {
	switch {
	case a == None:
		return "none"
	case a.Valid():
		return names[a]
	}
	return fmt.Sprintf("digest(%d)", uint8(a))
}

// Size is the length of a digest in bytes, 0 for None and for unknown values.
func (a Alg) Size() int {
	if !a.Valid() {
		return 0
	}
	return sizes[a]
}

// Sum appends the digest of data to dst; None appends nothing. It panics on a value that is not Valid: foreign
// values are checked where they are decoded.
func (a Alg) Sum(dst, data []byte) []byte {
	switch a {
	case None:
		return dst
	case CRC32C:
		return binary.BigEndian.AppendUint32(dst, crc32.Checksum(data, castagnoli))
	case MD5:
		s := md5.Sum(data)
		return append(dst, s[:]...)
	case SHA1:
		s := sha1.Sum(data)
		return append(dst, s[:]...)
	case SHA256:
		s := sha256.Sum256(data)
		return append(dst, s[:]...)
	case SHA512:
		s := sha512.Sum512(data)
		return append(dst, s[:]...)
	case XXH3:
		return binary.BigEndian.AppendUint64(dst, xxh3.Hash(data))
	case BLAKE3:
		s := blake3.Sum256(data)
		return append(dst, s[:]...)
	}
	panic(fmt.Sprintf("digest: algorithm %d is not valid", uint8(a)))
}
