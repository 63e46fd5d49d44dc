"""CSV is what programs read: every character of it is fixed here."""

import csv
import io

from skipdit_cli.report import delimited

COMPARED = """\
method,flops_t_paper,flops_t_ours,flops_t_spread,flops_t_low,flops_t_high,flops_t_difference,flops_t_n,flops_t_status,\
psnr_paper,psnr_ours,psnr_spread,psnr_low,psnr_high,psnr_difference,psnr_n,psnr_status,\
lpips_paper,lpips_ours,lpips_spread,lpips_low,lpips_high,lpips_difference,lpips_n,lpips_status,spec,runs,notes
Skip-DiT,290.05,290.04997,,,,-3e-05,,match,,,,,,,,reference,,,,,,,,not run,none,aaaa,
"a|b, n=2",180.68,184.1806,,,,3.5006,,off,29.52,28.0449,1.5,26.5449,29.5449,-1.4751,16,off,\
0.06,0.0604,,,,0.0004,16,match,,bbbb cccc,
FORA,1341.72,,,,,,,planned,22.93,,,,,,,needs weights,0.14,0.00123,,,,,4,tiny scale,,,\
FORA comes later; run `skipdit download x`
PAB,,,,,,,,planned,,21,,,,,16,measured,0.2,,,,,,,planned,,,PAB comes later; FORA comes later
"""

ALONE = """\
model,cache,ideal,ideal_spread,ideal_low,ideal_high,ideal_n,ideal_status,\
speedup,speedup_spread,speedup_low,speedup_high,speedup_n,speedup_status,\
psnr,psnr_spread,psnr_low,psnr_high,psnr_n,psnr_status,spec,runs,notes
toy,no cache,1,,,,,measured,1,,0.996,1.004,5,measured,,,,,,reference,,,
toy,skip-cache n=2,1.5,,,,,measured,1.4567,,1.4255,1.4879,5,measured,\
30,,27.874,32.126,16,measured,,,
toy,skip-cache n=3,2,,,,,measured,1.9,,1.88,1.92,5,measured,26,,,,16,measured,,,
toy,skip-cache n=4,2.2,,,,,measured,,,,,,failed,,,,,,failed,,,the disk is full
"""


def test_table_beside_published_values(compared):
    assert delimited.to_csv(compared) == COMPARED


def test_table_without_published_values(alone):
    assert delimited.to_csv(alone) == ALONE


def test_a_column_with_the_paper_s_beside_has_both(small):
    assert delimited.to_csv(small) == (
        "method,psnr,psnr_spread,psnr_low,psnr_high,psnr_n,psnr_status,speedup_paper,speedup_ours,"
        "speedup_spread,speedup_low,speedup_high,speedup_difference,speedup_n,speedup_status,spec,"
        "runs,notes\n"
        "Skip-DiT,,,,,,reference,1,1,,,,,,tiny scale,,,\n"
        "Skip-Cache n=2,30,,28,32,16,tiny scale,1.56,1.25,,1.15,1.35,,,tiny scale,,,\n"
        "mine,,,,,,not run,,1.5,,1.4,1.6,,,tiny scale,,,\n"
    )


def test_every_line_has_every_column(compared):
    lines = list(csv.reader(io.StringIO(delimited.to_csv(compared))))
    assert [len(line) for line in lines] == [28] * 5
