package tun

import "math/bits"

// buffer holds a packet until the last part of it has arrived.
type buffer struct {
	packet packet
	data   []byte
	class  int
	parts  int // of it that are on their way
}

// pool keeps buffers that are not in use, by size: powers of two. One goroutine uses it.
type pool struct {
	free [numClasses][]*buffer
}

const (
	minClass   = 8                 // 256 bytes
	maxPacket  = 1<<17 - 1         // bytes, more than a super-packet has
	numClasses = 17 - minClass + 1 // up to 128 KiB
)

// get returns a buffer for n bytes, up to maxPacket.
func (p *pool) get(n int) *buffer {
	class := max(bits.Len(uint(n-1)), minClass) - minClass
	if list := p.free[class]; len(list) > 0 {
		b := list[len(list)-1]
		p.free[class] = list[:len(list)-1]
		b.data = b.data[:n]
		return b
	}
	return &buffer{data: make([]byte, n, 1<<(class+minClass)), class: class}
}

func (p *pool) put(b *buffer) {
	b.packet = packet{}
	p.free[b.class] = append(p.free[b.class], b)
}
