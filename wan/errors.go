package wan

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/quic-go/quic-go"

	"drship/wan/frame"
)

// The ends of handshakes and sessions. Errors of this package wrap one of them and name what differed.
var (
	// ErrNoAuthentication is returned by NewEndpoint where no way to trust a peer is configured.
	ErrNoAuthentication = errors.New("no authentication is configured")
	// ErrAuth means that a side could not prove who it is: wrong certificate, wrong secret, or none.
	ErrAuth = errors.New("authentication failed")
	// ErrResource means that the other side serves another resource.
	ErrResource = errors.New("resources differ")
	// ErrVersion means that the two have no wire version in common.
	ErrVersion = errors.New("no wire version in common")
	// ErrName means that a node is not called what the other side expects.
	ErrName = errors.New("node names differ")
	// ErrNotWanted means that a side does not want this connection now: it was told to disconnect.
	ErrNotWanted = errors.New("connection is not wanted")
	// ErrReplaced ends a session in whose place a newer connection with the same peer came.
	ErrReplaced = errors.New("replaced by a newer connection")
	// ErrPingTimeout ends a session whose peer fell silent.
	ErrPingTimeout = errors.New("peer does not answer")
	// ErrTimeout ends a handshake that took too long.
	ErrTimeout = errors.New("handshake took too long")
	// ErrProtocol means that the peer sent what this version of the protocol does not allow.
	ErrProtocol = errors.New("protocol violated")
	// ErrBusy means that the other side has too many unauthenticated connections at the moment.
	ErrBusy = errors.New("too many connections")
	// ErrClosed ends what this side closed in an orderly way.
	ErrClosed = errors.New("closed")
	// ErrPeerClosed ends a session that the peer closed in an orderly way.
	ErrPeerClosed = errors.New("closed by the peer")
	// ErrPeerLost ends a session whose peer no longer knows of it: it was restarted.
	ErrPeerLost = errors.New("peer has lost the session")

	// errDuplicate turns away the loser of two connections made at the same time. No failure: there is a session.
	errDuplicate = errors.New("there is a session already")
)

// Close codes on the wire. Never renumber them.
const (
	codeClosed quic.ApplicationErrorCode = iota + 1
	codeAuth
	codeResource
	codeVersion
	codeName
	codeNotWanted
	codeReplaced
	codeDuplicate
	codePingTimeout
	codeTimeout
	codeProtocol
	codeBusy
)

// codes orders the errors for codeOf: the first that an error is names its code.
var codes = [...]struct {
	code quic.ApplicationErrorCode
	err  error // what it is on the side that closes
	told error // what it is on the side that is told
}{
	{codeAuth, ErrAuth, ErrAuth},
	{codeResource, ErrResource, ErrResource},
	{codeVersion, ErrVersion, ErrVersion},
	{codeName, ErrName, ErrName},
	{codeNotWanted, ErrNotWanted, ErrNotWanted},
	{codeReplaced, ErrReplaced, ErrReplaced},
	{codeDuplicate, errDuplicate, errDuplicate},
	{codePingTimeout, ErrPingTimeout, ErrPingTimeout},
	{codeTimeout, ErrTimeout, ErrTimeout},
	{codeProtocol, ErrProtocol, ErrProtocol},
	{codeBusy, ErrBusy, ErrBusy},
	{codeClosed, ErrClosed, ErrPeerClosed},
}

func codeOf(err error) quic.ApplicationErrorCode {
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return codeClosed
}

// refusal is an error with a text for the peer, which may not know yet what our own error says.
type refusal struct {
	err  error
	tell string
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// refuse makes an error of the kind with a detail for this side and a text that is safe to tell a stranger.
func refuse(kind error, tell, detail string, args ...any) error {
	return &refusal{err: fmt.Errorf("%w: %s", kind, fmt.Sprintf(detail, args...)), tell: tell}
}

const maxCloseText = 200 // bytes

// closeConn ends a connection and tells the peer why, as far as it may know: authenticated peers get the whole text.
func closeConn(conn *quic.Conn, err error, authenticated bool) {
	text := ""
	var r *refusal
	switch {
	case errors.As(err, &r):
		text = r.tell
	case authenticated:
		text = err.Error()
	}
	// CloseWithError's own error is always nil.
	_ = conn.CloseWithError(codeOf(err), printable(text))
}

// printable cuts a text from or for the peer to a line that is safe to print.
func printable(s string) string {
	if len(s) > maxCloseText {
		s = s[:maxCloseText]
	}
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// fromQUIC turns the end of a connection into one of this package's errors.
func fromQUIC(err error) error {
	var app *quic.ApplicationError
	var transport *quic.TransportError
	var idle *quic.IdleTimeoutError
	var slow *quic.HandshakeTimeoutError
	var reset *quic.StatelessResetError
	var version *quic.VersionNegotiationError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &app) && app.Remote:
		return fromPeer(app)
	case errors.As(err, &transport):
		return fromTransport(transport)
	case errors.As(err, &idle):
		return fmt.Errorf("%w: %w", ErrPingTimeout, err)
	case errors.As(err, &slow), errors.Is(err, context.DeadlineExceeded), errors.Is(err, errDeadline):
		return fmt.Errorf("%w: no answer", ErrTimeout)
	case errors.Is(err, errHandshake), errors.Is(err, frame.ErrFrame):
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	case errors.As(err, &reset):
		return fmt.Errorf("%w: it was restarted", ErrPeerLost)
	case errors.As(err, &version):
		return fmt.Errorf("%w: %w", ErrVersion, err)
	}
	return err
}

func fromPeer(app *quic.ApplicationError) error {
	told := error(ErrProtocol)
	for _, c := range codes {
		if c.code == app.ErrorCode {
			told = c.told
		}
	}
	if text := printable(app.ErrorMessage); text != "" {
		return fmt.Errorf("%w (told by the peer: %s)", told, text)
	}
	return fmt.Errorf("%w (told by the peer)", told)
}

const (
	cryptoErrors            = 0x100 // QUIC carries a TLS alert as 0x100 and the alert
	alertNoApplicationProto = 120
)

func fromTransport(t *quic.TransportError) error {
	switch {
	case errors.Is(t, ErrAuth): // our own finding, without the transport's words around it
		for _, err := range t.Unwrap() {
			if errors.Is(err, ErrAuth) {
				return err
			}
		}
		return t
	case t.ErrorCode == cryptoErrors+alertNoApplicationProto:
		return fmt.Errorf("%w: %w", ErrVersion, t)
	case t.ErrorCode.IsCryptoError() && t.Remote:
		return fmt.Errorf("%w: the peer does not accept this node's certificate: %w", ErrAuth, t)
	case t.ErrorCode.IsCryptoError():
		return fmt.Errorf("%w: %w", ErrAuth, t)
	case t.ErrorCode == quic.ConnectionRefused:
		return fmt.Errorf("%w: %w", ErrBusy, t)
	}
	return t
}
