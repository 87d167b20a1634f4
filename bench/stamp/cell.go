// Package stamp makes writes that can be recognised wherever they turn up, and checks what a replica holds against the
// promises of the write order.
//
// A volume is seen as cells of 64 bytes. Each cell that a stamped write covers says which write it belongs to and where
// it belongs, under a checksum:
//
//	0        4        8               16              24               64
//	┌────────┬────────┬───────────────┬───────────────┬────────────────┐
//	│ magic  │ crc32c │ operation     │ volume, cell  │ filler         │   integers little-endian;
//	└────────┴────────┴───────────────┴───────────────┴────────────────┘   crc32c over bytes 8…63
//
// So a write is told from every other one, also where it is not aligned to a block, and a torn, misplaced or
// invented one shows. Cells that are all zero were never written, zeroed or trimmed.
package stamp

import (
	"encoding/binary"
	"hash/crc32"
)

// CellSize is the unit in which writes are told apart, in bytes; every write is aligned to it.
const CellSize = 64

const cellMagic = 0x6c6c6563

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Fill stamps p, which begins at cell first of a volume and whose length is a multiple of CellSize, as operation op's.
func Fill(p []byte, volume uint16, first int64, op uint64) {
	for i := int64(0); len(p) > 0; i++ {
		fillCell(p[:CellSize], place(volume, first+i), op)
		p = p[CellSize:]
	}
}

// place packs a volume and a cell number: 16 bits and 48 bits.
func place(volume uint16, cell int64) uint64 { return uint64(volume)<<48 | uint64(cell) }

func fillCell(p []byte, at, op uint64) {
	binary.LittleEndian.PutUint32(p, cellMagic)
	binary.LittleEndian.PutUint64(p[8:], op)
	binary.LittleEndian.PutUint64(p[16:], at)
	for i := 24; i < CellSize; i += 8 {
		binary.LittleEndian.PutUint64(p[i:], mix(op^at<<20^uint64(i)))
	}
	binary.LittleEndian.PutUint32(p[4:], crc32.Checksum(p[8:CellSize], castagnoli))
}

// mix is splitmix64's finaliser: filler that does not compress, so that the link carries real weight.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// content of a cell, as found.
type content int

const (
	contentZero content = iota
	contentStamp
	contentOther // torn, misplaced or not ours
)

// readCell tells what a cell that should be at a place holds, and whose it is.
func readCell(p []byte, at uint64) (content, uint64) {
	if isZero(p) {
		return contentZero, 0
	}
	op := binary.LittleEndian.Uint64(p[8:])
	switch {
	case binary.LittleEndian.Uint32(p) != cellMagic,
		binary.LittleEndian.Uint64(p[16:]) != at,
		binary.LittleEndian.Uint32(p[4:]) != crc32.Checksum(p[8:CellSize], castagnoli):
		return contentOther, op
	}
	return contentStamp, op
}

func isZero(p []byte) bool {
	for ; len(p) >= 8; p = p[8:] {
		if binary.LittleEndian.Uint64(p) != 0 {
			return false
		}
	}
	return true
}
