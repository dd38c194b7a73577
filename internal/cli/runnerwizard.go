package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bermhq/berm/internal/cli/wizard"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
)

// maxOffered is the longest list to choose from; beyond it names are typed.
const maxOffered = 500

// runnerWizard asks for a runner: for all of a new one, for what changes of one that is there.
type runnerWizard struct {
	flags *runnerSetFlags
	cmd   *cobra.Command
	// from is the runner as it is, empty for a new one; next is what the answers make of it.
	from, next *runnerState
	asksID     bool
	reason     string
	// What there is to choose from: profiles, ids that are taken, and of some fields what other runners have.
	profiles, taken []string
	used            map[string][]string
}

func (w *runnerWizard) create() bool { return len(w.from.runner.Keys) == 0 }

// look reads what there is to choose from. Who may not see it types names.
func (w *runnerWizard) look(ctx context.Context, c *client.Client) error {
	names, err := profileNames(ctx, c)
	if err != nil && !fault.Is(err, fault.Denied) {
		return err
	}
	w.profiles = slices.Sorted(maps.Values(names))
	w.used = map[string][]string{}
	for path, key := range map[string]string{runnersPath: "runners", zonesPath: "zones"} {
		raw, err := listAll(ctx, c, path, key)
		if fault.Is(err, fault.Denied) {
			continue
		}
		if err != nil {
			return err
		}
		var list []json.RawMessage
		if err := json.Unmarshal(raw, &list); err != nil {
			return fault.Internalf(err, "the answer is no list")
		}
		for _, raw := range list {
			n, err := answer(raw)
			if err != nil {
				return err
			}
			if key == "zones" {
				w.used["zone"] = append(w.used["zone"], textAt(n, "name"))
				continue
			}
			w.taken = append(w.taken, textAt(n, "identity", "runnerId"))
			for _, f := range runnerFields {
				w.used[f.flag] = append(w.used[f.flag], f.of(n))
			}
		}
	}
	return nil
}

// ask asks, the second time with the answers of the first.
func (w *runnerWizard) ask(ctx context.Context, t *wizard.Terminal) error {
	id := &wizard.Prompt{Flag: "RUNNER-ID", Title: "Id of the runner", Doc: "Unique, and cannot be changed later.", Example: "east", Answer: w.next.id, Check: w.checkID}
	var prompts []*wizard.Prompt
	if w.asksID {
		prompts = append(prompts, id)
	}
	asked := map[string]*wizard.Prompt{}
	for _, f := range runnerFields {
		if w.flags.values[f.flag] == nil || w.cmd.Flags().Changed(f.flag) {
			continue
		}
		asked[f.flag] = w.prompt(f)
		prompts = append(prompts, asked[f.flag])
	}
	bindings := w.bindingsPrompt()
	if len(w.flags.profiles)+len(w.flags.bind)+len(w.flags.unbind) == 0 {
		prompts = append(prompts, bindings)
	}
	if err := t.Ask(ctx, prompts); err != nil {
		return err
	}
	next := *w.next
	next.id = id.Answer
	for _, f := range runnerFields {
		if p := asked[f.flag]; p != nil && p.Answer != f.of(next.runner) {
			next.runner = f.put(next.runner, p.Answer)
		}
	}
	next.bindings = w.chosen(answeredNames(bindings.Answer))
	w.next = &next
	return w.askLast(ctx, t)
}

// askLast asks what depends on the bindings that were chosen, and why.
func (w *runnerWizard) askLast(ctx context.Context, t *wizard.Terminal) error {
	names := w.next.names()
	is := w.next.byDefault()
	if is == "" && len(names) > 0 {
		is = names[0]
	}
	byDefault := &wizard.Prompt{Flag: "--default", Title: "Default binding", Doc: "Launches that name no profile get this one.", Answer: is}
	if w.create() {
		byDefault.Flag = "--profile, the first"
	}
	for _, name := range names {
		byDefault.Options = append(byDefault.Options, wizard.Option{Value: name})
	}
	reason := &wizard.Prompt{Flag: "--reason", Title: "Reason", Doc: "Why, kept with the revision.", Answer: w.reason}
	var prompts []*wizard.Prompt
	if len(names) > 1 && w.flags.isDefault == "" && len(w.flags.profiles) == 0 {
		prompts = append(prompts, byDefault)
	}
	if !w.create() && !w.cmd.Flags().Changed("reason") {
		prompts = append(prompts, reason)
	}
	if err := t.Ask(ctx, prompts); err != nil {
		return err
	}
	w.reason = reason.Answer
	if byDefault.Answer == "" {
		return nil
	}
	return w.next.setDefault(byDefault.Answer)
}

// prompt asks for a field: of a closed set by a list, else as text, with what other runners have named.
func (w *runnerWizard) prompt(f runnerField) *wizard.Prompt {
	p := &wizard.Prompt{Flag: "--" + f.flag, Title: f.title, Doc: strings.ToUpper(f.doc[:1]) + f.doc[1:] + ".", Answer: f.of(w.next.runner)}
	if values := f.values(); values != nil {
		p.Options = append(p.Options, wizard.Option{Label: "(not stated)"})
		for _, v := range values {
			p.Options = append(p.Options, wizard.Option{Value: v})
		}
		return p
	}
	used := slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(w.used[f.flag]))), func(s string) bool { return s == "" })
	if len(used) > 0 && !f.fixed {
		p.Doc += " There are " + short(strings.Join(used, ", ")) + "."
	}
	p.Check = func(a string) error {
		switch {
		case a == "" && f.needed:
			return fmt.Errorf("must be given")
		case a != "" && f.fixed && slices.Contains(used, a):
			return fmt.Errorf("there is a runner of %s already; a cluster has one", a)
		case a != "" && (f.flag == "zone" || f.flag == "group"):
			return nameProblem(a)
		}
		return nil
	}
	return p
}

// bindingsPrompt asks which profiles are bound. A binding that is there stays as it is.
func (w *runnerWizard) bindingsPrompt() *wizard.Prompt {
	p := &wizard.Prompt{Flag: "--bind, --unbind", Title: "Profiles to bind", Doc: "What its sandboxes may be.", Answer: strings.Join(w.next.names(), ",")}
	if w.create() {
		p.Flag = "--profile"
	}
	names := w.next.names()
	for _, name := range w.profiles {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if p.Many = len(names) <= maxOffered && len(names) > 0; p.Many {
		for _, name := range names {
			p.Options = append(p.Options, wizard.Option{Value: name})
		}
	}
	p.Check = func(a string) error {
		for _, name := range answeredNames(a) {
			if len(w.profiles) > 0 && !slices.Contains(names, name) {
				return fmt.Errorf("there is no profile %s", name)
			}
		}
		if len(answeredNames(a)) == 0 {
			return fmt.Errorf("a runner binds at least one profile")
		}
		return nil
	}
	return p
}

// chosen are the bindings of these names: those that are there as they are, others of the profile of that name.
func (w *runnerWizard) chosen(names []string) (out []runnerBinding) {
	for _, name := range names {
		b := runnerBinding{name: name, profile: name}
		for _, have := range slices.Concat(w.next.bindings, w.from.bindings) {
			if have.name == name {
				b = have
				break
			}
		}
		out = append(out, b)
	}
	return out
}

func (w *runnerWizard) checkID(id string) error {
	if err := nameProblem(id); err != nil {
		return err
	}
	if slices.Contains(w.taken, id) {
		return fmt.Errorf("there is a runner %s already", id)
	}
	return nil
}

// nameProblem says what is wrong with a name, in the words of the server.
func nameProblem(name string) error {
	if err := spec.CheckName("", name); err != nil {
		return fmt.Errorf("%s", fault.From(err).Fields[0].Description)
	}
	return nil
}

// answeredNames are the names of an answer with many.
func answeredNames(answer string) []string {
	return strings.FieldsFunc(answer, func(r rune) bool { return r == ',' || r == ' ' })
}

// words is the command line of the answers.
func (w *runnerWizard) words() []string {
	words := w.next.words(w.from, w.create())
	switch {
	case w.create() && w.next.id == "", words == nil:
		return nil
	case w.create():
		return append([]string{"berm", "runner", "create", w.next.id}, words...)
	case w.reason != "":
		words = append(words, "--reason", w.reason)
	}
	return append([]string{"berm", "runner", "edit", w.from.id}, words...)
}

// rebase makes the changes that were answered to the runner as somebody else left it.
func (w *runnerWizard) rebase(now *runnerState) error {
	next := *now
	for _, f := range runnerFields {
		if is := f.of(w.next.runner); is != f.of(w.from.runner) {
			next.runner = f.put(next.runner, is)
		}
	}
	next.bindings = slices.DeleteFunc(slices.Clone(now.bindings), func(b runnerBinding) bool {
		return slices.Contains(w.from.names(), b.name) && !slices.Contains(w.next.names(), b.name)
	})
	for _, b := range w.next.bindings {
		if !slices.Contains(w.from.names(), b.name) && !slices.Contains(next.names(), b.name) {
			next.bindings = append(next.bindings, b)
		}
	}
	byDefault := w.next.byDefault()
	changed := byDefault != w.from.byDefault()
	w.from, w.next = now, &next
	if changed {
		return next.setDefault(byDefault)
	}
	return nil
}
