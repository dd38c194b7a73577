package resolver

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	specpb "github.com/bermhq/berm/gen/berm/spec"
)

const tooManyNames = "REFUSED (too many different names: try again later)"

// TestNamesPerMinute: how much can be carried out in names is bounded, wherever names can carry something.
func TestNamesPerMinute(t *testing.T) {
	w := newWorld(t)
	w.names.has(t, "exact.example. 0 A 1.1.1.1")
	for _, c := range []struct {
		mode  *specpb.EgressMode
		limit int
	}{
		{internet(), NamesPerMinute}, {listed("*.x.example"), PatternNamesPerMinute}, {ranged("1.0.0.0/8"), FilteredNamesPerMinute},
	} {
		b := w.sandbox(c.mode)
		ask := func(i int) string {
			w.clock.advance(time.Second / QuestionsPerSecond)
			return b.a(fmt.Sprintf("secret-%d.x.example", i))
		}
		asked, refused := 0, 0
		for i := range c.limit * 2 {
			switch got := ask(i); got {
			case "NXDOMAIN":
				asked++
			case tooManyNames:
				refused++
			default:
				t.Fatal(got)
			}
		}
		// What comes back in the time that the questions themselves take is at most as much again.
		if took := float64(c.limit*2) / QuestionsPerSecond / 60; asked < c.limit || asked > int(float64(c.limit)*(1+took))+1 || refused == 0 {
			t.Errorf("%v: %d asked, %d refused", c.mode, asked, refused)
		}
		if n := len(w.names.questions()); n != asked {
			t.Errorf("%d asked outside, %d answered", n, asked)
		}
		if s := b.Stats(b.id()); s.Limited != int64(refused) {
			t.Errorf("counted: %+v", s)
		}
		w.clock.advance(time.Minute)
		equal(t, "a minute later", ask(1_000_000), "NXDOMAIN")
		equal(t, "again", ask(1_000_000), "NXDOMAIN")
		w.names.questions()
	}
	b := w.sandbox(listed("exact.example"))
	for range PatternNamesPerMinute * 2 {
		w.clock.advance(time.Second / QuestionsPerSecond)
		equal(t, "listed one by one", b.a("exact.example"), "NOERROR 1.1.1.1")
	}
}

// TestTexts: questions for anything but addresses are bounded on their own.
func TestTexts(t *testing.T) {
	w := newWorld(t)
	w.names.has(t, "x.example. 0 TXT hello")
	b := w.sandbox(internet())
	for range TextsPerMinute {
		equal(t, "text", b.ask("x.example", dns.TypeTXT), `NOERROR "hello"`)
	}
	equal(t, "text", b.ask("x.example", dns.TypeTXT), "REFUSED (too many questions for other records than addresses: try again later)")
	equal(t, "another sandbox", w.sandbox(internet()).ask("x.example", dns.TypeTXT), `NOERROR "hello"`)
	w.clock.advance(time.Second)
	equal(t, "later", b.ask("x.example", dns.TypeTXT), `NOERROR "hello"`)
}

// TestRate: questions are bounded, also those that cost nothing.
func TestRate(t *testing.T) {
	w := newWorld(t)
	b := w.sandbox(listed("x.example"))
	for range QuestionBurst {
		equal(t, "denied", b.a("evil.example"), notListed)
	}
	equal(t, "over", b.a("evil.example"), "REFUSED (too many questions: try again later)")
	equal(t, "another sandbox", w.sandbox(listed("x.example")).a("evil.example"), notListed)
	w.clock.advance(time.Second)
	equal(t, "later", b.a("evil.example"), notListed)
	if s := b.Stats(b.id()); s.Limited != 1 || s.Questions != QuestionBurst+1 || len(s.Denials) != 1 || s.Denials[0].Count != QuestionBurst+1 {
		t.Errorf("counted: %+v", s)
	}
}

// TestNothingElseIsPassedOn: options, spelling and flags of a question stay inside.
func TestNothingElseIsPassedOn(t *testing.T) {
	w := newWorld(t)
	got := make(chan *dns.Msg, 1)
	w.names.handle(func(_ string, q *dns.Msg) *dns.Msg {
		got <- q.Copy()
		return new(dns.Msg).SetReply(q)
	})
	m := new(dns.Msg).SetQuestion("SeCrEt.ExAmPlE.", dns.TypeA)
	m.CheckingDisabled, m.AuthenticatedData = true, true
	m.SetEdns0(4096, true)
	m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_LOCAL{Code: 65001, Data: []byte("secret")}, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0011223344556677"}}
	r := w.sandbox(internet()).send("udp", m)
	q := <-got
	if q.Question[0].Name != "secret.example." || len(q.IsEdns0().Option) != 0 || q.IsEdns0().Do() || q.CheckingDisabled || q.AuthenticatedData || q.Id == m.Id && m.Id == 0 {
		t.Errorf("passed on: %v", q)
	}
	if r.Question[0].Name != m.Question[0].Name {
		t.Errorf("answered: %v", r)
	}
}

// TestUnderWay: one sandbox that waits for answers keeps others from nothing.
func TestUnderWay(t *testing.T) {
	w := newWorld(t)
	release := make(chan struct{})
	defer close(release)
	w.names.handle(func(_ string, q *dns.Msg) *dns.Msg {
		if strings.HasPrefix(q.Question[0].Name, "slow") {
			<-release
		}
		return w.names.answer("", q)
	})
	b := w.sandbox(internet())
	conn := b.dial("udp")
	for i := range MaxSandboxQuestions + 5 {
		data, err := new(dns.Msg).SetQuestion(fmt.Sprintf("slow%d.example.", i), dns.TypeA).Pack()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	equal(t, "another sandbox", w.sandbox(internet()).a("fast.example"), "NXDOMAIN")
	if n, s := len(b.Resolver.client(b.id()).questions), b.Stats(b.id()); n != MaxSandboxQuestions || s.Limited != 5 {
		t.Errorf("%d under way, counted %+v", n, s)
	}
}

// TestShares: it takes many sandboxes to use up what all have together.
func TestShares(t *testing.T) {
	for what, all := range map[string]int{"questions under way": MaxQuestions, "questions to servers": MaxExchanges} {
		if all < 32*MaxSandboxQuestions {
			t.Errorf("%s: %d sandboxes keep all others from %d", what, all/MaxSandboxQuestions, all)
		}
	}
	if MaxDatagramBytes < MaxReplyBytes {
		t.Errorf("servers are told of %d bytes, and %d are taken", MaxReplyBytes, MaxDatagramBytes)
	}
}

// TestConnections: connections are bounded, and what comes over them.
func TestConnections(t *testing.T) {
	w := newWorld(t)
	b := w.sandbox(internet())
	var held []net.Conn
	for range MaxSandboxConnections {
		c := b.dial("tcp")
		if err := (&dns.Conn{Conn: c}).WriteMsg(new(dns.Msg).SetQuestion("x.example.", dns.TypeA)); err != nil {
			t.Fatal(err)
		}
		if _, err := (&dns.Conn{Conn: c}).ReadMsg(); err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	if _, err := b.dial("tcp").Read(make([]byte, 1)); err == nil {
		t.Error("one more connection is served")
	}
	equal(t, "another sandbox", words(w.sandbox(internet()).send("tcp", new(dns.Msg).SetQuestion("x.example.", dns.TypeA))), "NXDOMAIN")

	// One that announces a question that is too long is ended, and so is one that asks too much.
	if _, err := held[0].Write([]byte{0xff, 0xff, 0}); err != nil {
		t.Fatal(err)
	}
	if _, err := held[0].Read(make([]byte, 1)); err == nil {
		t.Error("a question that is too long is answered")
	}
	c := &dns.Conn{Conn: held[1]}
	n := 1
	for ; n < QuestionsPerConnection+5; n++ {
		if c.WriteMsg(new(dns.Msg).SetQuestion("x.example.", dns.TypeA)) != nil {
			break
		}
		if _, err := c.ReadMsg(); err != nil {
			break
		}
	}
	equal(t, "questions over a connection", n, QuestionsPerConnection)
}

// TestMalformed: what is no question is told so, and what is an answer is not answered.
func TestMalformed(t *testing.T) {
	w := newWorld(t)
	b := w.sandbox(internet())
	pack := func(change func(*dns.Msg)) []byte {
		m := new(dns.Msg).SetQuestion("x.example.", dns.TypeA)
		m.Id = 7
		change(m)
		data, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	good := pack(func(*dns.Msg) {})
	for what, c := range map[string]struct {
		data []byte
		want int
	}{
		"cut":         {good[:len(good)-1], dns.RcodeFormatError},
		"header":      {good[:headerBytes], dns.RcodeFormatError},
		"loop":        {append(append([]byte{}, good[:headerBytes]...), 0xc0, 12, 0, 1, 0, 1), dns.RcodeFormatError},
		"no question": {pack(func(m *dns.Msg) { m.Question = nil }), dns.RcodeFormatError},
		"two":         {pack(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), dns.RcodeFormatError},
		"answers": {pack(func(m *dns.Msg) {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "x.", Rrtype: 1, Class: 1}, A: net.IPv4(1, 1, 1, 1)}}
		}), dns.RcodeFormatError},
		"two options": {pack(func(m *dns.Msg) { m.SetEdns0(512, false).SetEdns0(512, false) }), dns.RcodeFormatError},
		"update":      {pack(func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }), dns.RcodeNotImplemented},
		"notify":      {pack(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }), dns.RcodeNotImplemented},
		"chaos":       {pack(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }), dns.RcodeRefused},
		"version 1":   {pack(func(m *dns.Msg) { m.SetEdns0(512, false).IsEdns0().SetVersion(1) }), dns.RcodeBadVers},
		"too long":    {append(pack(func(*dns.Msg) {}), make([]byte, MaxQuestionBytes)...), dns.RcodeFormatError},
	} {
		conn := b.dial("udp")
		if _, err := conn.Write(c.data); err != nil {
			t.Fatal(err)
		}
		m, err := (&dns.Conn{Conn: conn, UDPSize: 4096}).ReadMsg()
		if err != nil || m.Id != 7 || !m.Response || m.Rcode != c.want {
			t.Errorf("%s: %v %v", what, m, err)
		}
	}
	conn := b.dial("udp")
	for _, silent := range [][]byte{nil, {1}, good[:headerBytes-1], pack(func(m *dns.Msg) { m.Response = true })} {
		if _, err := conn.Write(silent); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Write(good); err != nil {
		t.Fatal(err)
	}
	if m, err := (&dns.Conn{Conn: conn}).ReadMsg(); err != nil || m.Rcode != dns.RcodeNameError {
		t.Errorf("%v %v", m, err) // The first thing that comes back is the answer to the question.
	}
	equal(t, "asked outside", len(w.names.questions()), 1)
}

// TestSizes: an answer is as long as who asks can take it; the rest is over TCP.
func TestSizes(t *testing.T) {
	w := newWorld(t)
	for i := range MaxAddresses + 8 {
		w.names.has(t, fmt.Sprintf("many.example. 60 AAAA 2606:4700::%x", i+1))
	}
	b := w.sandbox(listed("many.example"))
	q := new(dns.Msg).SetQuestion("many.example.", dns.TypeAAAA)
	small := b.send("udp", q)
	small.Compress = true
	if !small.Truncated || small.Len() > dns.MinMsgSize {
		t.Errorf("%d bytes, truncated: %v", small.Len(), small.Truncated)
	}
	if whole := b.send("tcp", q); whole.Truncated || len(whole.Answer) != MaxAddresses {
		t.Errorf("%d answers, truncated: %v", len(whole.Answer), whole.Truncated)
	}
	q.SetEdns0(65535, false)
	large := b.send("udp", q)
	large.Compress = true
	if large.Truncated || len(large.Answer) != MaxAddresses || large.Len() > MaxReplyBytes {
		t.Errorf("%d answers in %d bytes, truncated: %v", len(large.Answer), large.Len(), large.Truncated)
	}
}

// TestKept: what is kept of sandboxes, names and denials is bounded, and goes with the sandbox.
func TestKept(t *testing.T) {
	w := newWorld(t)
	b := w.sandbox(listed("*.x.example"))
	for i := range KnownNames + 10 {
		w.clock.advance(time.Second)
		b.a(fmt.Sprintf("n%d.x.example", i))
		b.a(fmt.Sprintf("n%d.evil.example", i))
	}
	c := b.Resolver.client(b.id())
	if c.known.Len() != KnownNames || len(b.Stats(b.id()).Denials) != KeptDenials {
		t.Errorf("%d names, %d denials", c.known.Len(), len(b.Stats(b.id()).Denials))
	}
	b.Forget(b.id())
	if s := b.Stats(b.id()); s.Questions != 0 || len(w.clients) != 0 {
		t.Errorf("kept: %+v", s)
	}
	for i := range MaxCached + 10 {
		_, _, _ = w.cache.get(t.Context(), question{fmt.Sprintf("c%d.example", i), dns.TypeA})
	}
	equal(t, "cached", w.cache.entries.Len(), MaxCached)
}

// TestOnce: who asks for the same at the same time shares one question, and what is kept is not asked again.
func TestOnce(t *testing.T) {
	w := newWorld(t)
	w.names.has(t, "x.example. 60 A 1.1.1.1")
	arrived, release := make(chan struct{}, 1), make(chan struct{})
	w.names.handle(func(n string, q *dns.Msg) *dns.Msg {
		arrived <- struct{}{}
		<-release
		return w.names.answer(n, q)
	})
	var wg sync.WaitGroup
	for range 8 {
		b := w.sandbox(internet())
		wg.Go(func() { equal(t, "at once", b.a("x.example"), "NOERROR 1.1.1.1") })
	}
	<-arrived
	for len(w.Resolver.questions) < 8 { // all of them are under way
		time.Sleep(time.Millisecond)
	}
	close(release)
	wg.Wait()
	equal(t, "kept", w.sandbox(internet()).a("x.example"), "NOERROR 1.1.1.1")
	equal(t, "asked outside", len(w.names.questions()), 1)
	w.clock.advance(61 * time.Second)
	equal(t, "later", w.sandbox(internet()).a("x.example"), "NOERROR 1.1.1.1")
	equal(t, "asked outside later", len(w.names.questions()), 1)
}
