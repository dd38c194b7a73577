package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

const (
	// maxSecretInput is the largest value that is read, in bytes; the server takes less.
	maxSecretInput = 1 << 20
	// defaultField is the field of a secret with one value.
	defaultField = "value"
)

func (s *session) secretPutCmd() *cobra.Command {
	var fields []string
	c := s.outputFlag(&cobra.Command{
		Use: "put STORE PATH [--field NAME[=@FILE]]...", Short: "Write a secret; its value is asked for, or read from standard input or files", Args: args(2, 2, "a store and a path"),
		Long: `Write a secret, in place of all that is at its path. Values are never arguments, which other users of the machine could see: on a
terminal they are asked for, without being shown; otherwise standard input is the value, without the newline at its end; @FILE is a
file, as it is. Without --field the secret has one field, "value", which a launch means when it names none.`,
		Example: `  berm secret put team hf-token
  pass show db | berm secret put team prod/db --field password
  berm secret put team tls --field cert=@cert.pem --field key=@key.pem`,
		RunE: func(cmd *cobra.Command, a []string) error {
			values, err := s.secretValues(fields)
			if err != nil {
				return err
			}
			return s.with(func(ctx context.Context, c *client.Client, a []string) error {
				resp, err := c.Secrets().PutSecret(ctx, &bermv1.PutSecretRequest{Store: a[0], Path: a[1], Fields: values})
				if err != nil {
					return err
				}
				return s.emitSecrets(resp.GetSecret(), resp.GetSecret())
			})(cmd, a)
		},
	})
	c.Flags().StringArrayVar(&fields, "field", nil, `field NAME, or NAME=@FILE to read it from a file; repeatable (default "value")`)
	return c
}

// secretValues reads what the fields are to have.
func (s *session) secretValues(fields []string) (map[string][]byte, error) {
	if len(fields) == 0 {
		fields = []string{defaultField}
	}
	in, terminal := s.In.(*os.File)
	terminal = terminal && isTerminal(in)
	out, read := make(map[string][]byte, len(fields)), ""
	for _, f := range fields {
		name, from, given := strings.Cut(f, "=")
		file, isFile := strings.CutPrefix(from, "@")
		_, twice := out[name]
		switch {
		case given && !isFile && from != "-":
			// What stands there may be a value: it is not repeated.
			return nil, fault.Invalidf("USAGE", "--field takes NAME or NAME=@FILE, and no value: arguments are visible to other users").
				WithHint("Leave the value out: it is asked for, or read from standard input.")
		case name == "":
			return nil, fault.Invalidf("USAGE", "--field has no name")
		case twice:
			return nil, fault.Invalidf("USAGE", "--field gives %q twice", name)
		case !isFile && !terminal && read != "":
			return nil, fault.Invalidf("USAGE", "standard input is one value, and --field asks for two of it: %s and %s", read, name).WithHint("Read one from a file: --field %s=@FILE", name)
		}
		var err error
		switch {
		case isFile:
			out[name], err = readLimited(file, maxSecretInput)
		case terminal:
			out[name], err = s.askSecret(in, name)
		default:
			read = name
			out[name], err = s.readSecret()
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *session) askSecret(in *os.File, name string) ([]byte, error) {
	fmt.Fprintf(s.Err, "%s: ", name)
	value, err := term.ReadPassword(int(in.Fd()))
	fmt.Fprintln(s.Err)
	if err != nil {
		return nil, fault.Invalidf("USAGE", "the value of %s could not be read from the terminal", name).WithCause(err)
	}
	return value, nil
}

func (s *session) readSecret() ([]byte, error) {
	value, err := io.ReadAll(io.LimitReader(s.In, maxSecretInput+1))
	if err != nil {
		return nil, unreadable("standard input", err)
	}
	if len(value) > maxSecretInput {
		return nil, fault.Invalidf(fault.ReasonLimitExceeded, "standard input is larger than %d bytes", maxSecretInput)
	}
	return bytes.TrimSuffix(bytes.TrimSuffix(value, []byte("\n")), []byte("\r")), nil
}

// secretRefs reads ENV=STORE/PATH[#FIELD] and gathers them by store, in the order given.
func secretRefs(flags []string) ([]*v1beta2pb.SecretStoreReference, error) {
	var out []*v1beta2pb.SecretStoreReference
	byStore := map[string]*v1beta2pb.SecretStoreReference{}
	for _, f := range flags {
		env, source, ok := strings.Cut(f, "=")
		store, path, both := strings.Cut(source, "/")
		path, field, named := strings.Cut(path, "#")
		if !ok || !both || env == "" || store == "" || path == "" || named && field == "" {
			return nil, fault.Invalidf("USAGE", "--secret %q is not ENV=STORE/PATH or ENV=STORE/PATH#FIELD", f)
		}
		ref := byStore[store]
		if ref == nil {
			ref = &v1beta2pb.SecretStoreReference{StoreName: store}
			byStore[store], out = ref, append(out, ref)
		}
		ref.Secrets = append(ref.Secrets, &v1beta2pb.SecretMapping{Path: path, Field: field, EnvVar: env})
	}
	return out, nil
}
