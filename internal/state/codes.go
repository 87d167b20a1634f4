package state

import "fmt"

// Code is a number of DRBD's: negative SS_ codes refuse a change of state, ERR_ codes from 101 up refuse a request.
type Code = int

// The SS_ codes.
const (
	SSSuccess              Code = 1
	SSTwoPrimaries         Code = -1
	SSNoUpToDateDisk       Code = -2
	SSNoLocalDisk          Code = -4
	SSNoRemoteDisk         Code = -5
	SSConnectedOutdates    Code = -6
	SSPrimaryNop           Code = -7
	SSResyncRunning        Code = -8
	SSAlreadyStandAlone    Code = -9
	SSRefusedByPeer        Code = -10
	SSDiskless             Code = -11
	SSDeviceInUse          Code = -12
	SSNoNetConfig          Code = -13
	SSNoVerifyAlg          Code = -14
	SSNeedConnection       Code = -15
	SSLowerThanOutdated    Code = -16
	SSNotSupported         Code = -17
	SSTransientState       Code = -18
	SSConcurrentChange     Code = -19
	SSOtherVolumePrimary   Code = -20
	SSInterrupted          Code = -21
	SSPrimaryReader        Code = -22
	SSTimeout              Code = -23
	SSWeaklyConnected      Code = -24
	SSNoQuorum             Code = -25
	SSNoBitmap             Code = -26
	SSHandshakeDisconnects Code = -27
	SSHandshakeRetry       Code = -28
)

// The ERR_ codes that drship gives.
const (
	ErrNone                Code = 101
	ErrLocalAddr           Code = 102
	ErrPeerAddr            Code = 103
	ErrOpenDisk            Code = 104
	ErrDiskNotBlockDevice  Code = 107
	ErrDiskTooSmall        Code = 111
	ErrDiskInUse           Code = 114
	ErrIOMetaDisk          Code = 118
	ErrNoMetaData          Code = 119
	ErrAuthAlg             Code = 120
	ErrNoMemory            Code = 122
	ErrDiscardImpossible   Code = 123
	ErrDiskConfigured      Code = 124
	ErrNetConfigured       Code = 125
	ErrMandatoryTag        Code = 126
	ErrMinorInvalid        Code = 127
	ErrInterrupted         Code = 129
	ErrResizeResync        Code = 130
	ErrNoPrimary           Code = 131
	ErrResyncAfter         Code = 132
	ErrResyncAfterCycle    Code = 133
	ErrPauseIsSet          Code = 134
	ErrPauseIsClear        Code = 135
	ErrNoDisk              Code = 138
	ErrNotProtocolC        Code = 139
	ErrIntegrityAlg        Code = 141
	ErrVerifyAlg           Code = 144
	ErrCsumsRunning        Code = 148
	ErrVerifyRunning       Code = 149
	ErrDataNotCurrent      Code = 150
	ErrConnected           Code = 151
	ErrPermission          Code = 152
	ErrStonithProtocolA    Code = 154
	ErrCongestionProtocolA Code = 155
	ErrPausedByDependency  Code = 156
	ErrPausedByPeer        Code = 157
	ErrResourceUnknown     Code = 158
	ErrResourceInUse       Code = 159
	ErrMinorConfigured     Code = 160
	ErrVolumeExists        Code = 161
	ErrInvalidRequest      Code = 162
	ErrUncleanMetaData     Code = 165
	ErrImplicitShrink      Code = 170
)

var codeTexts = map[Code]string{
	SSTwoPrimaries:         "Multiple primaries not allowed by config",
	SSNoUpToDateDisk:       "Need access to UpToDate data",
	SSNoLocalDisk:          "Can not resync without local disk",
	SSNoRemoteDisk:         "Can not resync without remote disk",
	SSConnectedOutdates:    "Refusing to be Outdated while Connected",
	SSPrimaryNop:           "Refusing to be Primary while peer is not outdated",
	SSResyncRunning:        "Can not start OV/resync since it is already active",
	SSAlreadyStandAlone:    "Can not disconnect a StandAlone device",
	SSRefusedByPeer:        "State change was refused by peer node",
	SSDiskless:             "Device is diskless, the requested operation requires a disk",
	SSDeviceInUse:          "Device is held open by someone",
	SSNoNetConfig:          "Have no net/connection configuration",
	SSNoVerifyAlg:          "Need a verify algorithm to start online verify",
	SSNeedConnection:       "Need a connection to start verify or resync",
	SSLowerThanOutdated:    "Disk state is lower than outdated",
	SSNotSupported:         "Peer does not support protocol",
	SSTransientState:       "In transient state, retry after next state change",
	SSConcurrentChange:     "Concurrent state changes detected and aborted",
	SSOtherVolumePrimary:   "Other vol primary on peer not allowed by config",
	SSInterrupted:          "Interrupted state change",
	SSPrimaryReader:        "Peer may not become primary while device is opened read-only",
	SSTimeout:              "Timeout in operation",
	SSWeaklyConnected:      "Primary nodes must be strongly connected among each other",
	SSNoQuorum:             "No quorum",
	SSNoBitmap:             "No bitmap slot for the peer",
	SSHandshakeDisconnects: "Disconnect chosen in handshake",
	SSHandshakeRetry:       "Retry chosen in handshake",

	ErrNone:                "No further Information available.",
	ErrLocalAddr:           "Local address(port) already in use.",
	ErrPeerAddr:            "Remote address(port) already in use.",
	ErrOpenDisk:            "Can not open backing device.",
	ErrDiskNotBlockDevice:  "Lower device is not a block device.",
	ErrDiskTooSmall:        "Low.dev. smaller than requested DRBD-dev. size.",
	ErrDiskInUse:           "Lower device is already claimed. This usually means it is mounted.",
	ErrIOMetaDisk:          "IO error(s) occurred during initial access to meta-data.",
	ErrNoMetaData:          "No valid meta-data signature found.\n\n\t==> Use 'drbdadm create-md res' to initialize meta-data area. <==\n",
	ErrAuthAlg:             "The 'cram-hmac-alg' you specified is not known.",
	ErrNoMemory:            "Out of memory?",
	ErrDiscardImpossible:   "--discard-my-data not allowed when primary.",
	ErrDiskConfigured:      "Device is attached to a disk (use detach first)",
	ErrNetConfigured:       "Device has a net-config (use disconnect first)",
	ErrMandatoryTag:        "UnknownMandatoryTag",
	ErrMinorInvalid:        "Device minor not allocated",
	ErrInterrupted:         "Interrupted by Signal",
	ErrResizeResync:        "Resize not allowed during resync.",
	ErrNoPrimary:           "Need one Primary node to resize.",
	ErrResyncAfter:         "The resync-after minor number is invalid",
	ErrResyncAfterCycle:    "This would cause a resync-after dependency cycle",
	ErrPauseIsSet:          "Sync-pause flag is already set",
	ErrPauseIsClear:        "Sync-pause flag is already cleared",
	ErrNoDisk:              "Device does not have a disk-config",
	ErrNotProtocolC:        "Protocol C required",
	ErrIntegrityAlg:        "The 'data-integrity-alg' you specified is not known.",
	ErrVerifyAlg:           "VERIFYAlgNotAvail",
	ErrCsumsRunning:        "Can not change csums-alg while resync is in progress",
	ErrVerifyRunning:       "Can not change verify-alg while online verify runs",
	ErrDataNotCurrent:      "Can only attach to the data we lost last (see kernel log).",
	ErrConnected:           "Need to be StandAlone",
	ErrPermission:          "Permission denied. CAP_SYS_ADMIN necessary",
	ErrStonithProtocolA:    "Fencing policy resource-and-stonith only with prot B or C allowed",
	ErrCongestionProtocolA: "on-congestion policy pull-ahead only with prot A allowed",
	ErrPausedByDependency:  "Sync-pause flag is already cleared.\nNote: Resync pause caused by a local resync-after dependency.",
	ErrPausedByPeer:        "Sync-pause flag is already cleared.\nNote: Resync pause caused by the peer node.",
	ErrResourceUnknown:     "Unknown resource",
	ErrResourceInUse:       "Resource still in use (delete all minors first)",
	ErrMinorConfigured:     "Minor still configured (down it first)",
	ErrVolumeExists:        "Minor or volume exists already (delete it first)",
	ErrInvalidRequest:      "Invalid configuration request",
	ErrUncleanMetaData:     "Unclean meta-data found.\nYou need to 'drbdadm apply-al res'",
	ErrImplicitShrink:      "Implicit device shrinking not allowed. See kernel log.",
}

// CodeText is the text that DRBD prints behind a code; scripts search for it.
func CodeText(code Code) string {
	if t, ok := codeTexts[code]; ok {
		return t
	}
	return fmt.Sprintf("Error code %d unknown.", code)
}

// ExitCode is drbdsetup's exit code for a code: 0 for success (0 and up to 100), 5 where an outdate found the data lower already,
// 10 for an ERR_ code, 16 without local disk, 17 without UpToDate data, 11 for any other refusal.
func ExitCode(code Code) int {
	switch {
	case code == ErrNone || code >= 0 && code <= 100:
		return 0
	case code > ErrNone:
		return 10
	case code == SSNoUpToDateDisk:
		return 17
	case code == SSLowerThanOutdated:
		return 5
	case code == SSNoLocalDisk:
		return 16
	}
	return 11
}

// Refusal says why something may not be done. A nil one means that it may.
type Refusal struct {
	Code   Code
	Text   string // DRBD's text for the code
	Detail string // what exactly, and what to do about it; "" where the text says all
}

// Refused makes a refusal of a code, with DRBD's text.
func Refused(code Code, detail string, args ...any) *Refusal {
	if len(args) > 0 {
		detail = fmt.Sprintf(detail, args...)
	}
	return &Refusal{Code: code, Text: CodeText(code), Detail: detail}
}

// Error is DRBD's line, followed by the detail.
func (r *Refusal) Error() string {
	kind := "State change failed"
	if r.Code > 0 {
		kind = "Failure"
	}
	s := fmt.Sprintf("%s: (%d) %s", kind, r.Code, r.Text)
	if r.Detail != "" {
		s += "\n" + r.Detail
	}
	return s
}

// Err is r as an error, nil for a nil refusal (a nil *Refusal in an error would not be nil).
func (r *Refusal) Err() error {
	if r == nil {
		return nil
	}
	return r
}

// ExitCode is the exit code of a command that is refused so; 0 for a nil refusal.
func (r *Refusal) ExitCode() int {
	if r == nil {
		return 0
	}
	return ExitCode(r.Code)
}
