package nbd

import (
	"context"
	"errors"
	"syscall"
)

// The errors that an Export wraps to say which NBD error its client shall see. Anything else is EIO.
var (
	ErrIO           = errors.New("input/output error")
	ErrNoSpace      = errors.New("no space left on device")
	ErrPerm         = errors.New("operation not permitted")
	ErrInvalid      = errors.New("invalid argument")
	ErrOverflow     = errors.New("value too large")
	ErrShutdown     = errors.New("server is shutting down")
	ErrNotSupported = errors.New("operation not supported")
)

// ErrUnknown is returned by Directory.Open for a name that is no export.
var ErrUnknown = errors.New("unknown export")

// PolicyError refuses an export that exists. Its text reaches the client's user.
type PolicyError struct {
	Text string // one line that says what is refused, why, and what to do
}

func (e *PolicyError) Error() string { return e.Text }

// The errors of the protocol, as they stand in replies.
const (
	codePerm         = uint32(1)
	codeIO           = uint32(5)
	codeNoMem        = uint32(12)
	codeInvalid      = uint32(22)
	codeNoSpace      = uint32(28)
	codeOverflow     = uint32(75)
	codeNotSupported = uint32(95)
	codeShutdown     = uint32(108)
)

// codes is in order of precedence: the first entry that matches an error's chain names its code.
var codes = []struct {
	err  error
	code uint32
}{
	{ErrPerm, codePerm},
	{ErrNoSpace, codeNoSpace},
	{ErrInvalid, codeInvalid},
	{ErrOverflow, codeOverflow},
	{ErrShutdown, codeShutdown},
	{ErrNotSupported, codeNotSupported},
	{ErrIO, codeIO},
	{syscall.EPERM, codePerm},
	{syscall.EACCES, codePerm},
	{syscall.EROFS, codePerm},
	{syscall.ENOSPC, codeNoSpace},
	{syscall.EDQUOT, codeNoSpace},
	{syscall.EFBIG, codeNoSpace},
	{syscall.EIO, codeIO},
	{context.Canceled, codeShutdown},
}

// Errno returns the NBD error for err: 0 for nil, EIO for what it does not know.
func Errno(err error) uint32 {
	if err == nil {
		return 0
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return codeIO
}

// ErrorOf is the inverse of Errno: the sentinel for an NBD error, nil for 0, ErrInvalid for a value that the
// protocol does not define, as the protocol asks of clients.
func ErrorOf(code uint32) error {
	switch code {
	case 0:
		return nil
	case codeIO:
		return ErrIO
	case codeNoMem:
		return syscall.ENOMEM
	}
	for _, c := range codes {
		if c.code == code {
			return c.err
		}
	}
	return ErrInvalid
}
