package nbd

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// readAhead is the size of a connection's read buffer: 15 requests with 4 KiB of data in one system call. What is
// larger is read straight into the request's own buffer.
const readAhead = 64 << 10

// negotiation is a connection before its client has picked an export.
type negotiation struct {
	srv    *Server
	conn   net.Conn // replaced by the TLS layer after STARTTLS
	client Client
	log    *slog.Logger

	in  *bufio.Reader
	out []byte // replies of the current option

	noZeroes   bool
	tlsNeeded  bool
	structured bool
	metaExport string // the export that base:allocation was selected for
	meta       bool
}

// chosen is the export that the client picked, and how it is presented.
type chosen struct {
	name    string
	export  Export
	release func()
	shape   shape
}

// errAbort ends a negotiation that the client wants no more.
var errAbort = errors.New("client aborted")

// run haggles until the client picks an export. It returns nil without an error if the client left instead.
func (n *negotiation) run(ctx context.Context) (*chosen, error) {
	stop := context.AfterFunc(ctx, func() { n.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	raw := n.conn
	if err := raw.SetDeadline(time.Now().Add(n.srv.cfg.HandshakeTimeout)); err != nil {
		return nil, fmt.Errorf("set deadline: %w", err)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	_, local := raw.(*net.UnixConn)
	n.tlsNeeded = n.srv.cfg.RequireTLS && !local
	n.in = bufio.NewReaderSize(raw, readAhead)

	c, err := n.haggle(ctx)
	switch {
	case errors.Is(err, errAbort), errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, err
	}
	if !stop() {
		c.release()
		return nil, ctx.Err()
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		c.release()
		return nil, fmt.Errorf("clear deadline: %w", err)
	}
	return c, nil
}

func (n *negotiation) haggle(ctx context.Context) (*chosen, error) {
	if err := n.greet(); err != nil {
		return nil, err
	}
	for range maxOptions {
		h, data, err := n.readOption()
		if err != nil {
			return nil, err
		}
		c, err := n.option(ctx, h.ID, data)
		if err == nil {
			err = n.flush()
		}
		if err != nil {
			if c != nil {
				c.release()
			}
			return nil, err
		}
		if c != nil {
			return c, nil
		}
	}
	return nil, fmt.Errorf("more than %d options", maxOptions)
}

// greet exchanges the flags of both sides.
func (n *negotiation) greet() error {
	var err error
	n.out, err = binary.Append(n.out[:0], binary.BigEndian, protocol.NegotiationNewstyleHeader{
		OldstyleMagic:  protocol.NEGOTIATION_MAGIC_OLDSTYLE,
		OptionMagic:    protocol.NEGOTIATION_MAGIC_OPTION,
		HandshakeFlags: HandshakeFixedNewstyle | HandshakeNoZeroes,
	})
	if err != nil {
		return fmt.Errorf("encode greeting: %w", err)
	}
	if err := n.flush(); err != nil {
		return err
	}
	var b [4]byte
	if _, err := io.ReadFull(n.in, b[:]); err != nil {
		return cut(err, "read client flags")
	}
	flags := binary.BigEndian.Uint32(b[:])
	if flags&^(ClientFixedNewstyle|ClientNoZeroes) != 0 {
		return fmt.Errorf("unknown client flags %#x", flags)
	}
	if flags&ClientFixedNewstyle == 0 {
		return errors.New("client does not speak fixed newstyle")
	}
	n.noZeroes = flags&ClientNoZeroes != 0
	return nil
}

// cut describes a connection that ended; one that ended between two messages stays io.EOF.
func cut(err error, doing string) error {
	if err == io.EOF {
		return io.EOF
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// readOption reads one option. Data that is too long is skipped, and data is nil then, with the header's length above maxOption.
func (n *negotiation) readOption() (h protocol.NegotiationOptionHeader, data []byte, err error) {
	var b [16]byte
	if _, err := io.ReadFull(n.in, b[:]); err != nil {
		return h, nil, cut(err, "read option")
	}
	h.OptionMagic = binary.BigEndian.Uint64(b[:])
	h.ID = binary.BigEndian.Uint32(b[8:])
	h.Length = binary.BigEndian.Uint32(b[12:])
	if h.OptionMagic != protocol.NEGOTIATION_MAGIC_OPTION {
		return h, nil, fmt.Errorf("option magic %#x is wrong", h.OptionMagic)
	}
	if h.Length > maxOption {
		return h, nil, n.skipOption(h)
	}
	data = make([]byte, h.Length)
	if _, err := io.ReadFull(n.in, data); err != nil {
		return h, nil, fmt.Errorf("read option %d: %w", h.ID, err)
	}
	return h, data, nil
}

func (n *negotiation) skipOption(h protocol.NegotiationOptionHeader) error {
	if h.Length > maxOptionSkipped || h.ID == OptExportName {
		return fmt.Errorf("option %d has %d bytes", h.ID, h.Length)
	}
	if _, err := n.in.Discard(int(h.Length)); err != nil {
		return fmt.Errorf("skip option %d: %w", h.ID, err)
	}
	return nil
}

// reply adds a reply to the current option; errors carry a text for the client's user as data.
func (n *negotiation) reply(option, kind uint32, data []byte) {
	n.out = binary.BigEndian.AppendUint64(n.out, protocol.NEGOTIATION_MAGIC_REPLY)
	n.out = binary.BigEndian.AppendUint32(n.out, option)
	n.out = binary.BigEndian.AppendUint32(n.out, kind)
	n.out = binary.BigEndian.AppendUint32(n.out, uint32(len(data)))
	n.out = append(n.out, data...)
}

func (n *negotiation) refuse(option, kind uint32, text string) {
	n.reply(option, kind, []byte(clip(text, MaxString)))
}

// flush sends what was replied.
func (n *negotiation) flush() error {
	if len(n.out) == 0 {
		return nil
	}
	_, err := n.conn.Write(n.out)
	n.out = n.out[:0]
	if err != nil {
		return fmt.Errorf("send reply: %w", err)
	}
	return nil
}

// startTLS puts the TLS layer under the negotiation and forgets what was agreed on in the clear.
func (n *negotiation) startTLS(ctx context.Context, data []byte) error {
	switch {
	case n.client.TLS:
		n.refuse(OptStartTLS, RepErrInvalid, "TLS is already in use")
		return nil
	case n.srv.cfg.TLS == nil:
		n.refuse(OptStartTLS, RepErrPolicy, "TLS is not configured on this server")
		return nil
	case len(data) != 0:
		n.refuse(OptStartTLS, RepErrInvalid, "STARTTLS takes no data")
		return nil
	case n.in.Buffered() != 0:
		// Bytes sent in the clear must not be taken for bytes of the encrypted session.
		return errors.New("data behind STARTTLS")
	}
	n.reply(OptStartTLS, RepAck, nil)
	if err := n.flush(); err != nil {
		return err
	}
	t := tls.Server(n.conn, n.srv.cfg.TLS)
	if err := t.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	n.conn, n.client.TLS = t, true
	n.in.Reset(t)
	n.structured, n.meta, n.metaExport = false, false, ""
	return nil
}
