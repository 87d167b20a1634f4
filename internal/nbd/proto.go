package nbd

import "github.com/pojntfx/go-nbd/pkg/protocol"

// What the protocol defines and go-nbd's protocol package lacks. Names follow the specification,
// https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md.
const (
	HandshakeFixedNewstyle = protocol.NEGOTIATION_HANDSHAKE_FLAG_FIXED_NEWSTYLE
	HandshakeNoZeroes      = uint16(1 << 1)

	ClientFixedNewstyle = uint32(1 << 0)
	ClientNoZeroes      = uint32(1 << 1)

	OptExportName      = uint32(1)
	OptAbort           = protocol.NEGOTIATION_ID_OPTION_ABORT
	OptList            = protocol.NEGOTIATION_ID_OPTION_LIST
	OptStartTLS        = uint32(5)
	OptInfo            = protocol.NEGOTIATION_ID_OPTION_INFO
	OptGo              = protocol.NEGOTIATION_ID_OPTION_GO
	OptStructuredReply = uint32(8)
	OptListMetaContext = uint32(9)
	OptSetMetaContext  = uint32(10)

	RepAck         = protocol.NEGOTIATION_TYPE_REPLY_ACK
	RepServer      = protocol.NEGOTIATION_TYPE_REPLY_SERVER
	RepInfo        = protocol.NEGOTIATION_TYPE_REPLY_INFO
	RepMetaContext = uint32(4)
	repError       = uint32(1 << 31)
	RepErrUnsup    = protocol.NEGOTIATION_TYPE_REPLY_ERR_UNSUPPORTED
	RepErrPolicy   = 2 | repError
	RepErrInvalid  = 3 | repError
	RepErrTLSReqd  = 5 | repError
	RepErrUnknown  = protocol.NEGOTIATION_TYPE_REPLY_ERR_UNKNOWN
	RepErrShutdown = 7 | repError
	RepErrTooBig   = 9 | repError

	InfoExport      = protocol.NEGOTIATION_TYPE_INFO_EXPORT
	InfoName        = protocol.NEGOTIATION_TYPE_INFO_NAME
	InfoDescription = protocol.NEGOTIATION_TYPE_INFO_DESCRIPTION
	InfoBlockSize   = protocol.NEGOTIATION_TYPE_INFO_BLOCKSIZE

	// Transmission flags.
	FlagHasFlags        = protocol.NEGOTIATION_REPLY_FLAGS_HAS_FLAGS
	FlagReadOnly        = uint16(1 << 1)
	FlagSendFlush       = uint16(1 << 2)
	FlagSendFUA         = uint16(1 << 3)
	FlagSendTrim        = uint16(1 << 5)
	FlagSendWriteZeroes = uint16(1 << 6)
	FlagSendDF          = uint16(1 << 7)
	FlagCanMultiConn    = protocol.NEGOTIATION_REPLY_FLAGS_CAN_MULTI_CONN
	FlagSendFastZero    = uint16(1 << 11)

	CmdRead        = protocol.TRANSMISSION_TYPE_REQUEST_READ
	CmdWrite       = protocol.TRANSMISSION_TYPE_REQUEST_WRITE
	CmdDisc        = protocol.TRANSMISSION_TYPE_REQUEST_DISC
	CmdFlush       = uint16(3)
	CmdTrim        = uint16(4)
	CmdWriteZeroes = uint16(6)
	CmdBlockStatus = uint16(7)

	CmdFlagFUA      = uint16(1 << 0)
	CmdFlagNoHole   = uint16(1 << 1)
	CmdFlagDF       = uint16(1 << 2)
	CmdFlagReqOne   = uint16(1 << 3)
	CmdFlagFastZero = uint16(1 << 4)

	// Structured replies.
	StructuredReplyMagic = uint32(0x668e33ef)
	ReplyFlagDone        = uint16(1 << 0)
	ReplyNone            = uint16(0)
	ReplyOffsetData      = uint16(1)
	ReplyOffsetHole      = uint16(2)
	ReplyBlockStatus     = uint16(5)
	replyErrorBit        = uint16(1 << 15)
	ReplyError           = 1 | replyErrorBit
	ReplyErrorOffset     = 2 | replyErrorBit

	// The flags of the base:allocation context.
	StateHole = uint32(1 << 0)
	StateZero = uint32(1 << 1)

	// BaseAllocation is the only metadata context that is offered.
	BaseAllocation = "base:allocation"

	// Sizes of messages on the wire, in bytes.
	RequestSize         = 28
	SimpleReplySize     = 16
	StructuredReplySize = 20
	ReplyHeaderSize     = 20 // of a reply during option haggling

	// MaxPayload bounds the data of one read or write, in bytes. It is what a client may assume that knows no better.
	MaxPayload = 32 << 20
	// MaxString bounds export names and messages, in bytes.
	MaxString = 4096

	// metaContextID names base:allocation in block status replies.
	metaContextID = uint32(1)
	// maxOption bounds the data of one option, in bytes; a longer one is skipped up to maxOptionSkipped, else the connection ends.
	maxOption        = 64 << 10
	maxOptionSkipped = 1 << 20
	// maxOptions bounds the options of one negotiation.
	maxOptions = 4096
	// maxExtents bounds the descriptors of one block status reply; the protocol advises at most 1<<20.
	maxExtents = 1 << 16
)
