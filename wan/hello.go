package wan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"drship/wan/frame"
)

// The messages of the handshake, on the first stream. Each is a kind, a length of 16 bits, and a body:
//
//	Hello: | magic "DRSH" | lowest version | highest version | instance 16 | nonce 32 | resource | node | peer | algorithm |
//	Proof: | length 1 | HMAC | arbiter's instance 16 | number 64 bits | alive 1 |
//	Go:    | number 64 bits |
//	Join:   | session 16 | stripe 16 bits | HMAC 32 |
//	Joined: | HMAC 32 |
//
// A connection begins with a Hello, to become a session, or with a Join, to become a stripe of one.
//
// Strings have a length of one byte. The second half of a Proof says what the side that is not the arbiter has last
// heard from it.
const (
	kindHello  byte = 1
	kindProof  byte = 2
	kindGo     byte = 3
	kindJoin   byte = 4
	kindJoined byte = 5

	helloMagic   = "DRSH"
	maxHandshake = 4 + 2 + 16 + 32 + 4*(1+maxName) // the longest, a Hello
)

type instanceID [16]byte

// hello is what each side says of itself first. Nothing in it is secret, and nothing of it is believed before the
// proofs are exchanged.
type hello struct {
	minVersion, maxVersion uint8
	instance               instanceID // of the Endpoint; new after each restart
	nonce                  [32]byte
	resource, node, peer   string // peer: who it believes to talk to
	alg                    string // cram-hmac-alg, empty without a secret
}

// held is the last session that a side was told of by the arbiter.
type held struct {
	arbiter instanceID
	serial  uint64
	alive   bool
}

type proof struct {
	mac  []byte
	held held
}

var errHandshake = errors.New("bad handshake message")

func (h *hello) append(b []byte) []byte {
	b = append(append(b, helloMagic...), h.minVersion, h.maxVersion)
	b = append(append(b, h.instance[:]...), h.nonce[:]...)
	for _, s := range []string{h.resource, h.node, h.peer, h.alg} {
		b = append(append(b, byte(len(s))), s...)
	}
	return b
}

// decodeHello takes a Hello of any version as far as its versions; what follows them only if this side speaks one.
func decodeHello(b []byte) (*hello, error) {
	if len(b) < len(helloMagic)+2 || string(b[:len(helloMagic)]) != helloMagic {
		return nil, fmt.Errorf("%w: no Hello", errHandshake)
	}
	b = b[len(helloMagic):]
	h := &hello{minVersion: b[0], maxVersion: b[1]}
	if h.minVersion > h.maxVersion {
		return nil, fmt.Errorf("%w: versions %d…%d", errHandshake, h.minVersion, h.maxVersion)
	}
	if h.minVersion > frame.Version || h.maxVersion < frame.Version {
		return h, nil
	}
	b = b[2:]
	if len(b) < len(h.instance)+len(h.nonce) {
		return nil, fmt.Errorf("%w: Hello ends early", errHandshake)
	}
	b = b[copy(h.instance[:], b):]
	b = b[copy(h.nonce[:], b):]
	for _, s := range []*string{&h.resource, &h.node, &h.peer, &h.alg} {
		if len(b) == 0 || len(b) < 1+int(b[0]) {
			return nil, fmt.Errorf("%w: Hello ends early", errHandshake)
		}
		*s, b = string(b[1:1+int(b[0])]), b[1+int(b[0]):]
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("%w: %d bytes behind Hello", errHandshake, len(b))
	}
	for _, s := range []string{h.resource, h.node, h.peer} {
		if err := validName("Hello's", s); err != nil {
			return nil, fmt.Errorf("%w: %w", errHandshake, err)
		}
	}
	if h.alg != "" && hmacs[h.alg] == nil {
		return nil, fmt.Errorf("%w: algorithm %q", errHandshake, h.alg)
	}
	return h, nil
}

func (p *proof) append(b []byte) []byte {
	b = append(append(b, byte(len(p.mac))), p.mac...)
	b = binary.BigEndian.AppendUint64(append(b, p.held.arbiter[:]...), p.held.serial)
	if p.held.alive {
		return append(b, 1)
	}
	return append(b, 0)
}

func decodeProof(b []byte) (*proof, error) {
	p := &proof{}
	const rest = len(p.held.arbiter) + 8 + 1
	if len(b) == 0 || len(b) != 1+int(b[0])+rest {
		return nil, fmt.Errorf("%w: a Proof of %d bytes", errHandshake, len(b))
	}
	p.mac, b = b[1:1+int(b[0])], b[1+int(b[0]):]
	b = b[copy(p.held.arbiter[:], b):]
	p.held.serial = binary.BigEndian.Uint64(b)
	switch b[8] {
	case 0:
	case 1:
		p.held.alive = true
	default:
		return nil, fmt.Errorf("%w: a Proof with %d for alive", errHandshake, b[8])
	}
	return p, nil
}

func decodeGo(b []byte) (serial uint64, err error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("%w: a Go of %d bytes", errHandshake, len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

// writeMessage sends one handshake message.
func writeMessage(w io.Writer, kind byte, body []byte) error {
	b := append(make([]byte, 0, 3+len(body)), kind, byte(len(body)>>8), byte(len(body)))
	_, err := w.Write(append(b, body...))
	return err
}

// readMessage receives one handshake message of that kind. It reads no more than the longest message.
func readMessage(r io.Reader, kind byte) ([]byte, error) {
	_, body, err := readEither(r, kind, kind)
	return body, err
}

// readEither is readMessage where one of two kinds is due.
func readEither(r io.Reader, kind, other byte) (got byte, body []byte, err error) {
	var head [3]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := int(head[1])<<8 | int(head[2])
	if head[0] != kind && head[0] != other || n > maxHandshake {
		return 0, nil, fmt.Errorf("%w: kind %d of %d bytes where kind %d is due", errHandshake, head[0], n, kind)
	}
	body = make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return 0, nil, err
	}
	return head[0], body, nil
}
