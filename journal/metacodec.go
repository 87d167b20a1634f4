package journal

import (
	"fmt"
	"math"

	"drship/internal/block"
	"drship/internal/state"
)

const metaVersion = 1

// Bounds of metadata.
const (
	MaxName  = 255 // bytes of a resource's, node's or peer's name
	MaxPeers = 32  // peers of a volume
)

const (
	metaCreated = 1 << iota
	metaPrimary
)

// encodeMeta writes the form described in docs/format.md.
func encodeMeta(m *Meta) ([]byte, error) {
	if len(m.Volumes) > block.MaxVolumes {
		return nil, fmt.Errorf("%d volumes, the limit is %d", len(m.Volumes), block.MaxVolumes)
	}
	w := metaWriter{buf: make([]byte, 4, 256)}
	w.u16(metaVersion)
	var bits uint16
	if m.Created {
		bits |= metaCreated
	}
	if m.Primary {
		bits |= metaPrimary
	}
	w.u16(bits)
	w.u32(m.Flags)
	w.u64(m.Epoch)
	w.name(m.Resource)
	w.name(m.Node)
	w.u16(uint16(len(m.Volumes)))
	for i := range m.Volumes {
		w.volume(&m.Volumes[i])
	}
	if w.err != nil {
		return nil, w.err
	}
	seal([]byte{keyMeta}, w.buf)
	return w.buf, nil
}

type metaWriter struct {
	buf []byte
	err error
}

func (w *metaWriter) u8(v uint8)   { w.buf = append(w.buf, v) }
func (w *metaWriter) u16(v uint16) { w.buf = le.AppendUint16(w.buf, v) }
func (w *metaWriter) u32(v uint32) { w.buf = le.AppendUint32(w.buf, v) }
func (w *metaWriter) u64(v uint64) { w.buf = le.AppendUint64(w.buf, v) }

func (w *metaWriter) name(s string) {
	if len(s) > MaxName {
		w.err = fmt.Errorf("name of %d bytes, the limit is %d", len(s), MaxName)
		return
	}
	w.u8(uint8(len(s)))
	w.buf = append(w.buf, s...)
}

func (w *metaWriter) volume(v *VolumeMeta) {
	if v.Size < 0 || len(v.Peers) > MaxPeers {
		w.err = fmt.Errorf("volume %d: size %d, %d peers of at most %d", v.Volume, v.Size, len(v.Peers), MaxPeers)
		return
	}
	w.u16(v.Volume)
	w.u8(uint8(v.Disk))
	w.u8(uint8(len(v.Peers)))
	w.u32(v.Flags)
	w.u64(uint64(v.Size))
	w.u64(v.Current)
	for _, h := range v.History {
		w.u64(h)
	}
	for i := range v.Peers {
		p := &v.Peers[i]
		w.name(p.Name)
		w.u8(uint8(p.Disk))
		w.u32(p.Flags)
		w.u64(p.Bitmap)
		w.u64(p.Mark.Epoch)
		w.u64(p.Mark.Num)
	}
}

// decodeMeta is the inverse of encodeMeta: it accepts exactly what encodeMeta writes.
func decodeMeta(raw []byte) (Meta, error) {
	if !sealed([]byte{keyMeta}, raw) {
		return Meta{}, fmt.Errorf("%w: metadata: checksum does not match", ErrCorrupt)
	}
	r := metaReader{buf: raw[4:]}
	m := Meta{Version: int(r.u16())}
	if m.Version != metaVersion && !r.short {
		return Meta{}, fmt.Errorf("%w: metadata version %d, this build knows %d", ErrFormat, m.Version, metaVersion)
	}
	bits := r.u16()
	m.Created, m.Primary = bits&metaCreated != 0, bits&metaPrimary != 0
	m.Flags = r.u32()
	m.Epoch = r.u64()
	m.Resource, m.Node = r.name(), r.name()
	volumes := int(r.u16())
	if bits&^uint16(metaCreated|metaPrimary) != 0 || volumes > block.MaxVolumes {
		return Meta{}, fmt.Errorf("%w: metadata: flags %#x, %d volumes", ErrCorrupt, bits, volumes)
	}
	for i := 0; i < volumes && !r.bad(); i++ {
		m.Volumes = append(m.Volumes, r.volume())
	}
	if r.bad() || len(r.buf) != 0 {
		return Meta{}, fmt.Errorf("%w: metadata: wrong length or value", ErrCorrupt)
	}
	return m, nil
}

type metaReader struct {
	buf     []byte
	short   bool // ran out of bytes
	outside bool // a value out of range
}

func (r *metaReader) bad() bool { return r.short || r.outside }

func (r *metaReader) take(n int) []byte {
	if len(r.buf) < n {
		r.short, r.buf = true, nil
		return make([]byte, n) // at most MaxName bytes of zeroes
	}
	b := r.buf[:n]
	r.buf = r.buf[n:]
	return b
}

func (r *metaReader) u8() uint8   { return r.take(1)[0] }
func (r *metaReader) u16() uint16 { return le.Uint16(r.take(2)) }
func (r *metaReader) u32() uint32 { return le.Uint32(r.take(4)) }
func (r *metaReader) u64() uint64 { return le.Uint64(r.take(8)) }

func (r *metaReader) name() string { return string(r.take(int(r.u8()))) }

func (r *metaReader) volume() VolumeMeta {
	v := VolumeMeta{Volume: r.u16(), Disk: state.Disk(r.u8())}
	peers := int(r.u8())
	v.Flags = r.u32()
	size := r.u64()
	v.Size = int64(size & math.MaxInt64)
	v.Current = r.u64()
	for i := range v.History {
		v.History[i] = r.u64()
	}
	if size > math.MaxInt64 || peers > MaxPeers {
		r.outside = true
		return v
	}
	for i := 0; i < peers && !r.short; i++ {
		p := PeerMeta{Name: r.name(), Disk: state.Disk(r.u8()), Flags: r.u32(), Bitmap: r.u64()}
		p.Mark.Epoch, p.Mark.Num = r.u64(), r.u64()
		v.Peers = append(v.Peers, p)
	}
	return v
}
