package journal

import "errors"

// Errors of opening.
var (
	// ErrLocked is returned by Open when another process, or another Store of this one, has the directory open.
	ErrLocked = errors.New("store is in use")
	// ErrFormat is returned by Open for a format version that this build does not know.
	ErrFormat = errors.New("unknown format version of the store")
	// ErrNoMeta is returned by Meta when metadata was never created here.
	ErrNoMeta = errors.New("no metadata")
)

// Errors of use.
var (
	// ErrClosed is returned by every method after Close.
	ErrClosed = errors.New("store is closed")
	// ErrFailed is returned by every method once the store can no longer be written. Store.Failed has the cause.
	ErrFailed = errors.New("store has failed")
	// ErrNoSpace is returned by whatever makes the store grow once its file system was full: the log, staging, history.
	ErrNoSpace = errors.New("no space left for the store")
	// ErrFull is returned when a configured limit is reached: the log's, or staging's.
	ErrFull = errors.New("limit of the store is reached")
	// ErrHistoryFull is returned by History when the room for pre-images has run out.
	ErrHistoryFull = errors.New("no room for more pre-images")
	// ErrGone is returned when a position is not covered by the log.
	ErrGone = errors.New("position is not in the journal")
	// ErrCorrupt is returned when stored bytes do not match their checksum or make no sense.
	ErrCorrupt = errors.New("stored data is corrupt")
	// ErrNoEpoch is returned by Log.Submit before Log.Begin.
	ErrNoEpoch = errors.New("no epoch begun")
	// ErrBusy is returned by what needs quiet: ActivityLog.Clear while extents are referenced, Log.Begin and Log.Reset
	// while records are submitted.
	ErrBusy = errors.New("still in use")
)
