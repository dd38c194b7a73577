package resolver

import "time"

// Limits of questions. Those per second and per minute are of one sandbox.
const (
	// MaxQuestionBytes is the longest question, over UDP and TCP.
	MaxQuestionBytes = 1232
	// QuestionsPerSecond is how many questions are answered.
	QuestionsPerSecond = 50
	// QuestionBurst is how many questions may come at once.
	QuestionBurst = 200
	// NamesPerMinute is how many names that it did not ask for lately a sandbox may ask for, where any name may be.
	NamesPerMinute = 600
	// PatternNamesPerMinute is the same for names that match a pattern of a list. Names that are listed one by one are not counted.
	PatternNamesPerMinute = 300
	// FilteredNamesPerMinute is the same for an allowlist of ranges alone.
	FilteredNamesPerMinute = 60
	// TextsPerMinute is how many questions for anything but addresses are answered.
	TextsPerMinute = 60
	// KnownNames is how many names that were asked for are remembered, and cost nothing again.
	KnownNames = 256
	// KeptDenials is how many denied names are told of, the latest ones.
	KeptDenials = 16

	// MaxSandboxQuestions is how many questions of a sandbox may be under way.
	MaxSandboxQuestions = 32
	// MaxQuestions is how many questions of all sandboxes may be under way.
	MaxQuestions = 2048
	// MaxSandboxConnections is how many TCP connections a sandbox may have.
	MaxSandboxConnections = 8
	// MaxConnections is how many TCP connections all sandboxes may have.
	MaxConnections = 512
	// QuestionsPerConnection is how many questions may come over one TCP connection.
	QuestionsPerConnection = 128
	// ConnectionIdle is how long a TCP connection may wait for the next question, or for its answer to be taken.
	ConnectionIdle = 10 * time.Second
)

// Limits of answers.
const (
	// MaxReplyBytes is the longest answer over UDP, also when the question announces room for more: longer ones are broken up by
	// networks, and a TCP connection has room for them.
	MaxReplyBytes = 1232
	// MaxAddresses is how many records are answered for one name.
	MaxAddresses = 32
	// MaxAliases is how long a chain of aliases may be.
	MaxAliases = 16
	// MaxTTL is how long an answer holds at most, whatever it says.
	MaxTTL = 5 * time.Minute
	// NoneTTL is how long it holds that there is nothing, when the authority does not say.
	NoneTTL = 30 * time.Second
	// MaxNoneTTL is how long that holds at most.
	MaxNoneTTL = time.Minute
	// FailureTTL is how long it holds that no server answered.
	FailureTTL = 2 * time.Second
	// PinSlack is how much longer than its answer an address can be connected to, for who connects in the last moment.
	PinSlack = 5 * time.Second
	// MemberTTL is how long answers about other sandboxes hold.
	MemberTTL = 5 * time.Second
	// MaxCached is how many answers are kept.
	MaxCached = 4096
	// MaxCachedBytes is how long an answer may be to be kept.
	MaxCachedBytes = 4 << 10
)

// Limits of what is asked of servers.
const (
	// MaxServers is how many name servers are asked for one name.
	MaxServers = 3
	// ServerPatience is how long one server may take.
	ServerPatience = 2 * time.Second
	// UpstreamPatience is how long all of them may take together: less than clients wait.
	UpstreamPatience = 4500 * time.Millisecond
	// MaxExchanges is how many questions to servers may be under way: each has a socket of its own. A server that says nothing keeps
	// one for seconds, so a few sandboxes that ask for names of such must not take them all.
	MaxExchanges = 1024
	// MaxDatagramBytes is the longest datagram that is taken from a server: more than is asked for, which is MaxReplyBytes.
	MaxDatagramBytes = 4096
	// MaxStrays is how many datagrams that are no answer are read past while waiting for one.
	MaxStrays = 64
	// MaxAnswerBytes is the longest answer that is taken from a server, over TCP.
	MaxAnswerBytes = 32 << 10
	// ConfigPoll is how often the file that names the servers is looked at, at most.
	ConfigPoll = time.Second
)

// MemberDomain is the domain of sandboxes.
const MemberDomain = "berm.internal"
