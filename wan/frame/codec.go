package frame

import (
	"fmt"
)

// codec is what every message does; the methods stand beside each other in control.go and stream.go.
type codec interface {
	Message
	append(dst []byte) []byte // the body, without the tail
	tail() []byte             // the last field of a body where it is long, so that it need not be copied
	decode(r *reader)         // the body; slices alias it
	validate() error
}

// Validate reports what in m may not be sent. A message of a type that is not of this package is refused.
func Validate(m Message) error {
	c, ok := m.(codec)
	if !ok {
		return fmt.Errorf("%w: %T is not a message", ErrFrame, m)
	}
	if err := c.validate(); err != nil {
		return fmt.Errorf("%w: %v: %w", ErrFrame, m.Type(), err)
	}
	return nil
}

// Append appends the whole frame of m, header and body, to dst. m is one that Validate accepts; otherwise the peer
// would refuse the frame.
func Append(dst []byte, m Message) []byte {
	head, tail := AppendHead(dst, m)
	return append(head, tail...)
}

// AppendHead is Append for a sender that writes twice: it appends everything but the tail, the long last field of a
// Batch or a Chunk, and returns the tail, which aliases m, apart. The header counts both.
func AppendHead(dst []byte, m Message) (head, tail []byte) {
	c := m.(codec)
	at := len(dst)
	var blank [HeaderSize]byte
	dst = c.append(append(dst, blank[:]...))
	tail = c.tail()
	putHeader(dst[at:], m.Type(), len(dst)-at-HeaderSize+len(tail))
	return dst, tail
}

// Decode decodes the body of a message of type t. The message's slices alias body. Trailing bytes and values out of
// range are refused.
func Decode(t Type, body []byte) (Message, error) {
	c := newMessage(t)
	if c == nil {
		return nil, fmt.Errorf("%w: unknown message type %d", ErrFrame, uint8(t))
	}
	if len(body) > int(MaxBody(t)) {
		return nil, fmt.Errorf("%w: %v of %d bytes, the limit is %d", ErrFrame, t, len(body), MaxBody(t))
	}
	r := reader{rest: body}
	c.decode(&r)
	if err := r.finish(); err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrFrame, t, err)
	}
	if err := Validate(c); err != nil {
		return nil, err
	}
	return c, nil
}

// Parse decodes one whole frame, as Append made it. The message's slices alias b.
func Parse(b []byte) (Message, error) {
	h, err := ReadHeader(b)
	if err != nil {
		return nil, err
	}
	if int(h.Length) != len(b)-HeaderSize {
		return nil, fmt.Errorf("%w: %v of %d bytes in a frame of %d", ErrFrame, h.Type, h.Length, len(b)-HeaderSize)
	}
	return Decode(h.Type, b[HeaderSize:])
}

func newMessage(t Type) codec {
	switch t {
	case TypeState:
		return &State{}
	case TypeBitmap:
		return &Bitmap{}
	case TypeBitmapEnd:
		return &BitmapEnd{}
	case TypeStreamStart:
		return &StreamStart{}
	case TypeBatch:
		return &Batch{}
	case TypeChunk:
		return &Chunk{}
	case TypeQuery:
		return &Query{}
	case TypeResyncEnd:
		return &ResyncEnd{}
	case TypeAck:
		return &Ack{}
	case TypeChunkAck:
		return &ChunkAck{}
	case TypeQueryReply:
		return &QueryReply{}
	case TypeResend:
		return &Resend{}
	case TypeResyncDone:
		return &ResyncDone{}
	case TypeRequest:
		return &Request{}
	case TypeReply:
		return &Reply{}
	case TypePing:
		return &Ping{}
	case TypePong:
		return &Pong{}
	case TypeVerify:
		return &Verify{}
	case TypeVerifyReply:
		return &VerifyReply{}
	case TypeIO:
		return &IO{}
	case TypeIOReply:
		return &IOReply{}
	case TypePeers:
		return &Peers{}
	case TypeSwitch:
		return &Switch{}
	case TypeStripes:
		return &Stripes{}
	case TypeOffer:
		return &Offer{}
	}
	return nil
}
