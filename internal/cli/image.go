package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

func (s *session) imageCmd() *cobra.Command {
	return noun("image", "Images that runners keep on their machines", s.imagePullCmd(), s.imageListCmd(), s.imageRemoveCmd(), s.imageImportCmd())
}

// runnerFlag adds --runner to a command about one runner.
func runnerFlag(c *cobra.Command, runner *string) *cobra.Command {
	c.Flags().StringVar(runner, "runner", "", "runner; may be left out when there is one")
	return c
}

// theRunner returns the runner named, or the only one that there is.
func theRunner(ctx context.Context, c *client.Client, named string) (string, error) {
	if named != "" {
		return named, nil
	}
	raw, err := listAll(ctx, c, runnersPath, "runners")
	if err != nil {
		return "", err
	}
	list, err := objects(raw, false)
	if err != nil {
		return "", err
	}
	var ids []string
	for _, r := range list {
		ids = append(ids, pick(r, "identity", "runnerId"))
	}
	switch len(ids) {
	case 1:
		return ids[0], nil
	case 0:
		return "", fault.NotFoundf(fault.ReasonRunnerNotFound, "there is no runner")
	}
	slices.Sort(ids)
	return "", fault.Invalidf("USAGE", "there are %d runners; say which with --runner: %s", len(ids), strings.Join(ids, ", "))
}

func (s *session) imageListCmd() *cobra.Command {
	var runner string
	return runnerFlag(s.outputFlag(&cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the images of a runner", Args: args(0, 0, "no arguments"),
		RunE: s.with(func(ctx context.Context, c *client.Client, _ []string) error {
			id, err := theRunner(ctx, c, runner)
			if err != nil {
				return err
			}
			resp, err := c.Images().ListImages(ctx, &bermv1.ListImagesRequest{Runner: id})
			if err != nil {
				return err
			}
			return s.emitImages(resp.GetImages())
		}),
	}), &runner)
}

func (s *session) emitImages(list []*bermv1.Image) error {
	all := messages(list)
	return s.emit(all, func() table {
		t := table{head: []string{"IMAGE", "DIGEST", "SIZE", "OWN", "USED", "IN USE"}, wide: []string{"LAYERS", "SOURCE", "PULLED", "INDEX"}}
		for _, img := range list {
			names := img.GetNames()
			if len(names) == 0 {
				names = []string{"<none>"}
			}
			use := strconv.Itoa(int(img.GetInUse()))
			if img.GetPinned() {
				use += ", pinned"
			}
			for _, name := range names {
				t.rows = append(t.rows, []string{
					name, shortDigest(img.GetDigest(), s.output), bytesText(img.GetSizeBytes()), bytesText(img.GetOwnBytes()), clock(img.GetUsedAt()), use,
					strconv.Itoa(int(img.GetLayers())), img.GetSource(), clock(img.GetPulledAt()), img.GetIndexDigest(),
				})
			}
		}
		return t
	})
}

// shortDigest is as much of a digest as people compare; wide has all of it.
func shortDigest(d, output string) string {
	const digits = len("sha256:") + 12
	if output == "wide" || len(d) <= digits {
		return d
	}
	return d[:digits]
}

// bytesText is a size as people read it.
func bytesText(n int64) string {
	const unit = 1024
	if n < unit {
		return strconv.FormatInt(n, 10) + " B"
	}
	value, units := float64(n), "KMGTPE"
	i := -1
	for value >= unit && i < len(units)-1 {
		value /= unit
		i++
	}
	return strconv.FormatFloat(value, 'f', 1, 64) + " " + units[i:i+1] + "iB"
}

func (s *session) imageRemoveCmd() *cobra.Command {
	var runner string
	var force bool
	c := runnerFlag(s.outputFlag(&cobra.Command{
		Use: "rm IMAGE…", Aliases: []string{"remove", "delete"}, Short: "Remove images by name or digest, and what no other needs", Args: args(1, -1, "at least one image"),
		Long: "Remove images. A name goes, and with the last one the image; an image named by digest, or by the first 6 digits or more of one, goes with all\nits names. Pinned images and those in use are refused without --force.",
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			id, err := theRunner(ctx, c, runner)
			if err != nil {
				return err
			}
			gone := []proto.Message{}
			for _, image := range a {
				done, failed := c.Images().DeleteImage(ctx, &bermv1.DeleteImageRequest{Runner: id, Image: image, Force: force})
				if err = failed; err != nil {
					break
				}
				gone = append(gone, done)
				s.tellRemoved(done)
			}
			// What went before one that did not is answered all the same.
			if s.output == "json" || s.output == "yaml" {
				err = errors.Join(err, s.emit(gone, nil))
			}
			return err
		}),
	}), &runner)
	c.Flags().BoolVar(&force, "force", false, "also what is pinned or in use; content in use goes when that ends")
	return c
}

// tellRemoved says what went, for people.
func (s *session) tellRemoved(done *bermv1.DeleteImageResponse) {
	if s.output == "json" || s.output == "yaml" {
		return
	}
	what := strings.Join(done.GetNames(), ", ")
	if what == "" {
		what = done.GetDigest()
	}
	kept := ""
	if done.GetDigest() == "" {
		kept = "; the image has other names and stays"
	}
	fmt.Fprintf(s.Err, "%s removed, %s freed%s\n", clean(what), bytesText(done.GetFreedBytes()), kept)
}
