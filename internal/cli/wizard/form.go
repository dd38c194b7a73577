package wizard

import (
	"context"
	"errors"
	"slices"
	"strings"

	"charm.land/bubbles/v2/key"
	tea "charm.land/bubbletea/v2"
	"charm.land/huh/v2"
)

// maxShown is how many options of a list are on the screen at a time, at most.
const maxShown = 12

// form asks one prompt to a page: whatever its doc is, it has room on a small terminal. shift+tab goes back.
func (t *Terminal) form(ctx context.Context, prompts []*Prompt) error {
	typed := make([]*string, len(prompts))
	many := make([]*[]string, len(prompts))
	groups := make([]*huh.Group, len(prompts))
	for i, p := range prompts {
		var field huh.Field
		switch {
		case p.Many:
			many[i] = new([]string)
			field = p.multiSelect(many[i])
		case len(p.Options) > 0:
			typed[i] = &p.Answer
			field = p.selection(typed[i])
		case p.typable():
			typed[i] = &p.Answer // Later prompts are checked beside it.
			field = p.input(typed[i])
		default:
			typed[i] = new(string)
			field = p.input(typed[i])
		}
		groups[i] = huh.NewGroup(field)
	}
	keymap := huh.NewDefaultKeyMap()
	keymap.Quit = key.NewBinding(key.WithKeys("ctrl+c", "ctrl+d", "esc"), key.WithHelp("esc", "stop, change nothing"))
	if t.keyboard == nil {
		t.keyboard = newKeyboard(t.In)
	}
	restore, err := raw(t.In)
	if err != nil {
		return err
	}
	defer restore()
	in := &keys{keyboard: t.keyboard, end: make(chan struct{})}
	defer close(in.end)
	form := huh.NewForm(groups...).WithKeyMap(keymap).WithTheme(huh.ThemeFunc(huh.ThemeBase16)).WithAccessible(false).
		WithProgramOptions(tea.WithInput(in), tea.WithOutput(t.Out), tea.WithoutSignalHandler()). // The context ends with them.
		WithViewHook(func(v tea.View) tea.View {
			v.AltScreen = len(prompts) > 1 // One question alone is about what stands above it.
			return v
		})
	err = form.RunWithContext(ctx)
	// Whatever ended the form without its last answer (a signal, a terminal that is gone) left it incomplete.
	if errors.Is(err, huh.ErrUserAborted) || errors.Is(err, huh.ErrTimeout) || err == nil && form.State != huh.StateCompleted {
		return ErrAborted
	}
	if err != nil {
		return err
	}
	for i, p := range prompts {
		switch {
		case p.Many:
			p.Answer = joined(p.Options, *many[i])
		case typed[i] != &p.Answer:
			p.Answer = p.typed(*typed[i])
		}
	}
	return nil
}

// input is a line of text, which is checked while it is typed.
func (p *Prompt) input(value *string) huh.Field {
	check := func(text string) error { return seen(p.check(p.typed(text))) }
	var placeholder string
	if p.Example != "" {
		placeholder = "such as " + Visible(p.Example) // Without colors the example alone would look like an answer.
	}
	if !p.typable() {
		placeholder = "kept as it is (" + none + ": none): " + Visible(p.Answer)
	}
	return huh.NewInput().Title(Visible(p.Title)).Placeholder(placeholder).Prompt("> ").Value(value).Validate(check).
		DescriptionFunc(func() string {
			text := p.below()
			if err := check(*value); err != nil && *value != "" {
				text += "\n! " + err.Error()
			}
			return text
		}, value)
}

// selection is one of the options.
func (p *Prompt) selection(value *string) huh.Field {
	list := huh.NewSelect[string]().Title(Visible(p.Title)).Description(p.below()).Options(p.options()...).
		Value(value).Validate(func(v string) error { return seen(p.check(v)) })
	if len(p.Options) > maxShown {
		return list.Height(p.height())
	}
	return list
}

// multiSelect is any number of the options.
func (p *Prompt) multiSelect(value *[]string) huh.Field {
	*value = chosen(p.Answer)
	return huh.NewMultiSelect[string]().Title(Visible(p.Title)).Description(p.below() + "\nspace or x: choose").Options(p.options()...).
		Height(p.height() + 1). // Without one it has no room for what stands above the options.
		Value(value).Validate(func(v []string) error { return seen(p.check(joined(p.Options, v))) })
}

func (p *Prompt) options() []huh.Option[string] {
	out := make([]huh.Option[string], len(p.Options))
	for i, o := range p.Options {
		out[i] = huh.NewOption(o.label(), o.Value)
	}
	return out
}

// height of a list with its title and description, which may take two lines each on a narrow terminal.
func (p *Prompt) height() int {
	return min(len(p.Options), maxShown) + 2*(2+strings.Count(p.below(), "\n"))
}

// below is what stands below the title.
func (p *Prompt) below() string {
	text := Visible(p.Flag)
	if p.Doc != "" {
		text = Visible(p.Doc) + "\n" + text
	}
	return text
}

// joined is the answer of those that were chosen, in the order of the options.
func joined(options []Option, values []string) string {
	var out []string
	for _, o := range options {
		if slices.Contains(values, o.Value) {
			out = append(out, o.Value)
		}
	}
	return strings.Join(out, ",")
}

// seen is an error as it may be shown.
func seen(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(Visible(err.Error()))
}
