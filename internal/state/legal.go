package state

import "slices"

// nextConns lists, for each connection state, those that may follow it. Not in the list, because they follow from each state
// with a link: the failures (Timeout to TearDown) and Disconnecting.
var nextConns = map[Conn][]Conn{
	StandAlone:     {Unconnected},
	Disconnecting:  {StandAlone},
	Unconnected:    {WFConnection, Disconnecting},
	Timeout:        {Unconnected, Disconnecting},
	BrokenPipe:     {Unconnected, Disconnecting},
	NetworkFailure: {Unconnected, Disconnecting},
	ProtocolError:  {Unconnected, Disconnecting},
	TearDown:       {Unconnected, Disconnecting},
	WFConnection:   {WFReportParams},
	WFReportParams: {Connected, WFBitMapS, WFBitMapT, PausedSyncS, PausedSyncT, Behind},
	Connected:      {StartingSyncS, StartingSyncT, WFBitMapS, WFBitMapT, VerifyS, VerifyT, Ahead, Behind},
	StartingSyncS:  {WFBitMapS, SyncSource, PausedSyncS, Connected},
	StartingSyncT:  {WFBitMapT, WFSyncUUID, Connected},
	WFBitMapS:      {SyncSource, PausedSyncS, Connected, Ahead},
	WFBitMapT:      {WFSyncUUID, Connected},
	WFSyncUUID:     {SyncTarget, PausedSyncT, Connected, Behind},
	SyncSource:     {PausedSyncS, Connected, Ahead},
	SyncTarget:     {PausedSyncT, Connected, Behind},
	VerifyS:        {Connected, Ahead},
	VerifyT:        {Connected, Behind},
	PausedSyncS:    {SyncSource, Connected, Ahead},
	PausedSyncT:    {SyncTarget, Connected, Behind},
	Ahead:          {SyncSource, PausedSyncS, WFBitMapS, Connected},
	Behind:         {SyncTarget, PausedSyncT, WFBitMapT, WFSyncUUID, Connected},
}

// Legal reports whether next may follow prev, for assertions. A state may follow itself.
func Legal(prev, next Conn) bool {
	if prev == next {
		return prev <= Behind
	}
	linked := prev >= WFConnection && prev <= Behind
	if linked && (next == Disconnecting || next >= Timeout && next <= TearDown) {
		return true
	}
	return slices.Contains(nextConns[prev], next)
}
