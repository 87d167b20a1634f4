package verb

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"syscall"
	"time"

	"drship/cmd/drship/control"
	"drship/internal/nbd"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// exportInfo is what a server tells of an export.
type exportInfo struct {
	size  int64  // bytes
	flags uint16 // transmission flags
}

// maxOptionReply bounds one reply of a negotiation, in bytes.
const maxOptionReply = 4096

// openExport negotiates an export in the form that the kernel speaks afterwards: simple replies, nothing read ahead.
func openExport(ctx context.Context, socket, export string) (*net.UnixConn, exportInfo, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, exportInfo{}, &control.Error{What: socket, Text: "no drship daemon serves exports here", Hint: "start it, or name its run directory by --run-dir", Exit: exitHard}
	}
	if err != nil {
		return nil, exportInfo{}, fmt.Errorf("connect to exports: %w", err)
	}
	conn := c.(*net.UnixConn)
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) }) //nolint:errcheck // a closed one has ended anyway
	x, err := negotiate(conn, export)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, exportInfo{}, errors.Join(err, conn.Close())
	}
	return conn, x, nil
}

// negotiate picks the export by NBD_OPT_GO and reads not a byte behind the last reply.
func negotiate(conn io.ReadWriter, export string) (exportInfo, error) {
	var hello protocol.NegotiationNewstyleHeader
	if err := binary.Read(conn, binary.BigEndian, &hello); err != nil {
		return exportInfo{}, fmt.Errorf("read greeting: %w", err)
	}
	if hello.OldstyleMagic != protocol.NEGOTIATION_MAGIC_OLDSTYLE || hello.OptionMagic != protocol.NEGOTIATION_MAGIC_OPTION || hello.HandshakeFlags&nbd.HandshakeFixedNewstyle == 0 {
		return exportInfo{}, errors.New("server does not speak fixed newstyle NBD")
	}
	b := binary.BigEndian.AppendUint32(nil, nbd.ClientFixedNewstyle|uint32(hello.HandshakeFlags&nbd.HandshakeNoZeroes))
	b = binary.BigEndian.AppendUint64(b, protocol.NEGOTIATION_MAGIC_OPTION)
	b = binary.BigEndian.AppendUint32(b, nbd.OptGo)
	b = binary.BigEndian.AppendUint32(b, uint32(4+len(export)+2))
	b = binary.BigEndian.AppendUint32(b, uint32(len(export)))
	b = append(b, export...)
	b = binary.BigEndian.AppendUint16(b, 0)
	if _, err := conn.Write(b); err != nil {
		return exportInfo{}, fmt.Errorf("ask for export: %w", err)
	}
	x := exportInfo{size: -1}
	for range 16 { // a server sends a handful of informations
		var h protocol.NegotiationReplyHeader
		if err := binary.Read(conn, binary.BigEndian, &h); err != nil {
			return x, fmt.Errorf("read reply: %w", err)
		}
		if h.ReplyMagic != protocol.NEGOTIATION_MAGIC_REPLY || h.ID != nbd.OptGo || h.Length > maxOptionReply {
			return x, errors.New("malformed reply of the NBD server")
		}
		data := make([]byte, h.Length)
		if _, err := io.ReadFull(conn, data); err != nil {
			return x, fmt.Errorf("read reply: %w", err)
		}
		switch {
		case h.Type == nbd.RepAck && x.size >= 0:
			return x, nil
		case h.Type == nbd.RepInfo && len(data) == 12 && binary.BigEndian.Uint16(data) == nbd.InfoExport:
			x.size, x.flags = int64(binary.BigEndian.Uint64(data[2:])), binary.BigEndian.Uint16(data[10:])
		case h.Type != nbd.RepInfo:
			return x, refusedExport(export, string(data), h.Type)
		}
	}
	return x, errors.New("the NBD server does not come to an end")
}

// refusedExport passes on why the server refuses, e.g. because the resource is Secondary here.
func refusedExport(export, text string, kind uint32) error {
	if text == "" {
		text = fmt.Sprintf("the server refused the export (reply %#x)", kind)
	}
	return &control.Error{What: export, Text: text, Exit: exitFailed}
}
