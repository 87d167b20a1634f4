package journal

import (
	"encoding/binary"
	"hash/crc32"

	"drship/internal/block"
)

// The first byte of a key says what it holds. Integers in keys are big-endian, so that they sort.
const (
	keyFormat     = 'v' // format version
	keyMeta       = 'm' // metadata
	keyLogState   = 'j' // highest epoch, start of the log
	keyEpoch      = 'e' // epoch → position it began at
	keyHeaders    = 'l' // epoch, last number → headers of a group of records
	keyData       = 'd' // epoch, last number → data of a group of records
	keyBitmap     = 'b' // peer, volume, page → page of a bitmap
	keyHot        = 'a' // volume, extent → hot in the activity log
	keyApplied    = 't' // applied mark of staging
	keyStaged     = 's' // index → staged batch
	keyHistory    = 'o' // position that the history goes back to
	keyImageIndex = 'i' // counter → which blocks a save holds
	keyImage      = 'h' // volume, block → pre-image
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	be = binary.BigEndian    // keys
	le = binary.LittleEndian // values
)

const seqKeyLen = 1 + 8 + 8

// putSeqKey writes prefix ‖ epoch ‖ number into dst, which has seqKeyLen bytes.
func putSeqKey(dst []byte, prefix byte, s block.Seq) {
	dst[0] = prefix
	be.PutUint64(dst[1:], s.Epoch)
	be.PutUint64(dst[9:], s.Num)
}

func seqKey(prefix byte, s block.Seq) []byte {
	k := make([]byte, seqKeyLen)
	putSeqKey(k, prefix, s)
	return k
}

// parseSeqKey is the inverse of seqKey; ok is false for a key of another shape.
func parseSeqKey(k []byte) (s block.Seq, ok bool) {
	if len(k) != seqKeyLen {
		return s, false
	}
	return block.Seq{Epoch: be.Uint64(k[1:]), Num: be.Uint64(k[9:])}, true
}

func u64Key(prefix byte, v uint64) []byte {
	k := make([]byte, 9)
	k[0] = prefix
	be.PutUint64(k[1:], v)
	return k
}

func putSeq(dst []byte, s block.Seq) {
	le.PutUint64(dst, s.Epoch)
	le.PutUint64(dst[8:], s.Num)
}

func getSeq(src []byte) block.Seq {
	return block.Seq{Epoch: le.Uint64(src), Num: le.Uint64(src[8:])}
}

// seal puts the checksum of everything behind its first four bytes into them; salt is the key it is stored under.
func seal(salt, value []byte) {
	le.PutUint32(value, crc32.Update(crc32.Update(0, castagnoli, salt), castagnoli, value[4:]))
}

// sealed reports whether value carries the checksum that seal put there.
func sealed(salt, value []byte) bool {
	return len(value) >= 4 &&
		le.Uint32(value) == crc32.Update(crc32.Update(0, castagnoli, salt), castagnoli, value[4:])
}
