package nbd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// option answers one option. It returns an export when the client picked one, and an error when the connection must end.
// data is nil if it was too long.
func (n *negotiation) option(ctx context.Context, id uint32, data []byte) (*chosen, error) {
	if n.tlsNeeded && !n.client.TLS && id != OptStartTLS && id != OptAbort {
		if id == OptExportName {
			return nil, errors.New("client picked an export without TLS")
		}
		n.refuse(id, RepErrTLSReqd, "this server requires TLS: start it with STARTTLS")
		return nil, nil
	}
	if data == nil {
		n.refuse(id, RepErrTooBig, fmt.Sprintf("option data is longer than %d bytes", maxOption))
		return nil, nil
	}
	switch id {
	case OptExportName:
		return n.exportName(ctx, data)
	case OptAbort:
		n.reply(id, RepAck, nil)
		_ = n.flush() // the client may be gone already, as the protocol allows
		return nil, errAbort
	case OptList:
		n.list(ctx, data)
	case OptStartTLS:
		return nil, n.startTLS(ctx, data)
	case OptInfo, OptGo:
		return n.info(ctx, id, data)
	case OptStructuredReply:
		if len(data) != 0 {
			n.refuse(id, RepErrInvalid, "STRUCTURED_REPLY takes no data")
			break
		}
		n.structured = true
		n.reply(id, RepAck, nil)
	case OptListMetaContext, OptSetMetaContext:
		n.metaContext(id, data)
	default:
		n.refuse(id, RepErrUnsup, fmt.Sprintf("option %d is not supported", id))
	}
	return nil, nil
}

// open opens an export and checks how it presents itself.
func (n *negotiation) open(ctx context.Context, name string) (*chosen, error) {
	e, release, err := n.srv.cfg.Directory.Open(ctx, name, n.client)
	if err != nil {
		return nil, err
	}
	sh, err := shapeOf(e, n.structured, n.meta && n.metaExport == name)
	if err != nil {
		release()
		return nil, err
	}
	return &chosen{name: name, export: e, release: release, shape: sh}, nil
}

// exportName answers the old way to pick an export, which has no way to say no but to hang up.
func (n *negotiation) exportName(ctx context.Context, data []byte) (*chosen, error) {
	if err := checkName(data); err != nil {
		return nil, err
	}
	c, err := n.open(ctx, string(data))
	if err != nil {
		return nil, fmt.Errorf("open export %q: %w", data, err)
	}
	n.out = binary.BigEndian.AppendUint64(n.out, c.shape.size)
	n.out = binary.BigEndian.AppendUint16(n.out, c.shape.flags)
	if !n.noZeroes {
		n.out = append(n.out, make([]byte, 124)...)
	}
	return c, nil
}

func (n *negotiation) list(ctx context.Context, data []byte) {
	if len(data) != 0 {
		n.refuse(OptList, RepErrInvalid, "LIST takes no data")
		return
	}
	for _, i := range n.srv.cfg.Directory.List(ctx) {
		name := clip(i.Name, MaxString)
		b := binary.BigEndian.AppendUint32(nil, uint32(len(name)))
		b = append(b, name...)
		n.reply(OptList, RepServer, append(b, clip(i.Description, MaxString)...))
	}
	n.reply(OptList, RepAck, nil)
}

// info answers INFO and GO, which differ only in what follows success.
func (n *negotiation) info(ctx context.Context, id uint32, data []byte) (*chosen, error) {
	name, wants, err := parseInfo(data)
	if err != nil {
		n.refuse(id, RepErrInvalid, err.Error())
		return nil, nil
	}
	c, err := n.open(ctx, name)
	if err != nil {
		n.refuseExport(id, name, err)
		return nil, nil
	}
	if err := n.describe(ctx, id, c, wants); err != nil {
		c.release()
		return nil, err
	}
	n.reply(id, RepAck, nil)
	if id == OptInfo {
		c.release()
		return nil, nil
	}
	return c, nil
}

// describe replies what the client must know of an export, and what it asked for.
func (n *negotiation) describe(ctx context.Context, id uint32, c *chosen, wants []uint16) error {
	b, err := binary.Append(nil, binary.BigEndian, protocol.NegotiationReplyInfo{
		Type: InfoExport, Size: c.shape.size, TransmissionFlags: c.shape.flags,
	})
	if err != nil {
		return fmt.Errorf("encode export info: %w", err)
	}
	n.reply(id, RepInfo, b)
	if slices.Contains(wants, InfoBlockSize) {
		b, err := binary.Append(nil, binary.BigEndian, protocol.NegotiationReplyBlockSize{
			Type:               InfoBlockSize,
			MinimumBlockSize:   c.shape.minBlock,
			PreferredBlockSize: c.shape.preferred,
			MaximumBlockSize:   c.shape.maxPayload,
		})
		if err != nil {
			return fmt.Errorf("encode block sizes: %w", err)
		}
		n.reply(id, RepInfo, b)
	}
	wantName, wantText := slices.Contains(wants, InfoName), slices.Contains(wants, InfoDescription)
	if !wantName && !wantText {
		return nil
	}
	i := n.lookup(ctx, c)
	if wantName {
		n.reply(id, RepInfo, append(binary.BigEndian.AppendUint16(nil, InfoName), clip(i.Name, MaxString)...))
	}
	if wantText && i.Description != "" {
		n.reply(id, RepInfo, append(binary.BigEndian.AppendUint16(nil, InfoDescription), clip(i.Description, MaxString)...))
	}
	return nil
}

// lookup finds the canonical name and the description of an open export.
func (n *negotiation) lookup(ctx context.Context, c *chosen) Info {
	if d, ok := c.export.(interface{ Info() Info }); ok {
		return d.Info()
	}
	for _, i := range n.srv.cfg.Directory.List(ctx) {
		if i.Name == c.name {
			return i
		}
	}
	return Info{Name: c.name}
}

// refuseExport tells the client why it cannot have an export.
func (n *negotiation) refuseExport(id uint32, name string, err error) {
	var policy *PolicyError
	switch {
	case errors.As(err, &policy):
		n.refuse(id, RepErrPolicy, policy.Text)
	case errors.Is(err, ErrShutdown):
		n.refuse(id, RepErrShutdown, err.Error())
	case errors.Is(err, ErrUnknown):
		n.refuse(id, RepErrUnknown, fmt.Sprintf("no export is named %q here", name))
	default:
		n.log.Error("cannot open export", "export", name, "err", err)
		n.refuse(id, RepErrUnknown, fmt.Sprintf("export %q cannot be opened: %v", name, err))
	}
}

// metaContext lists or selects metadata contexts. Whether the export exists is left to GO, which can say why not.
func (n *negotiation) metaContext(id uint32, data []byte) {
	if id == OptSetMetaContext {
		n.meta, n.metaExport = false, ""
	}
	if !n.structured {
		n.refuse(id, RepErrInvalid, "metadata contexts need structured replies: negotiate STRUCTURED_REPLY first")
		return
	}
	name, queries, err := parseMetaContext(data)
	if err != nil {
		n.refuse(id, RepErrInvalid, err.Error())
		return
	}
	found := slices.Contains(queries, BaseAllocation)
	contextID := metaContextID
	if id == OptListMetaContext {
		found = found || len(queries) == 0 || slices.Contains(queries, "base:")
		contextID = 0
	}
	if found {
		n.reply(id, RepMetaContext, append(binary.BigEndian.AppendUint32(nil, contextID), BaseAllocation...))
		if id == OptSetMetaContext {
			n.meta, n.metaExport = true, name
		}
	}
	n.reply(id, RepAck, nil)
}

// fields takes option data apart. After the first read behind the end every further one fails too.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) take(n uint64) []byte {
	if f.bad || uint64(len(f.b)) < n {
		f.bad = true
		return nil
	}
	v := f.b[:n]
	f.b = f.b[n:]
	return v
}

func (f *fields) uint16() uint16 {
	if v := f.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (f *fields) uint32() uint32 {
	if v := f.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

var errMalformed = errors.New("option data is malformed")

// parseInfo reads the data of INFO and GO: the export's name and the information that is asked for.
func parseInfo(data []byte) (name string, wants []uint16, err error) {
	f := fields{b: data}
	raw := f.take(uint64(f.uint32()))
	count := f.uint16()
	if f.bad || len(f.b) != 2*int(count) {
		return "", nil, errMalformed
	}
	for range count {
		wants = append(wants, f.uint16())
	}
	return string(raw), wants, checkName(raw)
}

// parseMetaContext reads the data of LIST_META_CONTEXT and SET_META_CONTEXT.
func parseMetaContext(data []byte) (name string, queries []string, err error) {
	f := fields{b: data}
	raw := f.take(uint64(f.uint32()))
	for count := f.uint32(); count > 0 && !f.bad; count-- {
		q := string(f.take(uint64(f.uint32())))
		if !f.bad && !strings.Contains(q, ":") {
			return "", nil, fmt.Errorf("metadata query %q has no namespace", clip(q, 64))
		}
		queries = append(queries, q)
	}
	if f.bad || len(f.b) != 0 {
		return "", nil, errMalformed
	}
	return string(raw), queries, checkName(raw)
}

func checkName(b []byte) error {
	switch {
	case len(b) > MaxString:
		return fmt.Errorf("export name is longer than %d bytes", MaxString)
	case !utf8.Valid(b) || slices.Contains(b, 0):
		return errors.New("export name is not valid UTF-8")
	}
	return nil
}

// clip shortens s to at most n bytes of valid UTF-8 without NUL, as strings on the wire must be.
func clip(s string, n int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "?")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
